"""A fitted scikit-learn scorer to `scorer.onnx`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.errors import ParityError
from edge_runtime.inference.scorer import ScorerGraph

# skl2onnx knows no newer one; the scorer stays a graph of its own, so the others need not care.
OPSET = 22
TOLERANCE = 1e-5


def export_scorer(scorer: Any, features: NDArray[np.float32], path: Path) -> float:
    """Write a scorer, and compare it with scikit-learn.

    Args:
        scorer: A fitted classifier or pipeline of two classes, the second anomalous.
        features: (N, K·d_h), on which the two are compared.
        path: The file.

    Returns:
        The largest difference of a probability.

    Raises:
        ParityError: It is beyond 1e-5 or not a number.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    model = convert_sklearn(
        scorer,
        initial_types=[("features", FloatTensorType([None, features.shape[1]]))],
        options={id(scorer): {"zipmap": False}},
        target_opset=OPSET,
    )
    # The label is the classifier's own threshold of 0.5; the locator has a calibrated one.
    graph = model.graph
    for output in [output for output in graph.output if output.name != "probabilities"]:
        graph.output.remove(output)
    graph.name = "scorer"
    model.doc_string = graph.doc_string = ""
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    difference = float(np.abs(ScorerGraph(path).probabilities(features) - scorer.predict_proba(features)[:, 1]).max())
    # Written so that a NaN does not pass.
    if not difference <= TOLERANCE:
        raise ParityError(f"{path.name} differs from scikit-learn by {difference:.3g}, allowed are {TOLERANCE:g}")
    return difference
