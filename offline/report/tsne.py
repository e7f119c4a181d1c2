"""Features in two dimensions. Classes play no part, so the picture cannot be flattered by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

MIN_SAMPLES = 8
#: More points cannot be told apart in a figure of this size, and take minutes.
MAX_SAMPLES = 1000

_COMPONENTS = 50
_PERPLEXITY = 30.0


def place(features: NDArray[np.floating], seed: int = 0) -> NDArray[np.float64]:
    """Place features in two dimensions by t-SNE (van der Maaten and Hinton 2008). O(n²).

    Each feature is standardised, because a few features of a transformer are far larger than all others;
    constant ones are dropped. Then the first 50 principal components, as its authors do. The perplexity is 30, less
    for few samples.

    Args:
        features: (n, width).
        seed: Of the embedding.

    Returns:
        (n, 2). Samples that are all alike come back on one point.

    Raises:
        ValueError: There are fewer than `MIN_SAMPLES`.
    """
    n = len(features)
    if n < MIN_SAMPLES:
        raise ValueError(f"{n} samples are too few for t-SNE; at least {MIN_SAMPLES}")
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    scale = x.std(axis=0)
    # A spread at the level of rounding is none.
    varies = scale > 1e-9 * max(1e-300, float(np.abs(features).max()))
    if not varies.any():
        return np.zeros((n, 2))
    x = x[:, varies] / scale[varies]
    components = min(_COMPONENTS, *x.shape)
    x = PCA(components, svd_solver="full").fit_transform(x)
    tsne = TSNE(
        perplexity=min(_PERPLEXITY, (n - 1) / 3),
        init="pca" if components >= 2 else "random",
        learning_rate="auto",
        random_state=seed,
        n_jobs=1,
    )
    placed: NDArray[np.float64] = np.asarray(tsne.fit_transform(x), dtype=np.float64)
    return placed
