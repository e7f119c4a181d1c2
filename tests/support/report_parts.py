"""A hunt, the manifest of its bundle and its features, for tests of reports."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from edge_runtime.bundle.manifest import Manifest
from models.heads import HeadRef
from offline.hunting.against_random import Compared
from offline.hunting.chance import Chance
from offline.hunting.evidence import Embedding
from offline.hunting.hunt import Hunt, select
from offline.hunting.permutation import Permuted
from offline.hunting.saliency import Saliency

L, H, D = 12, 8, 16
THRESHOLD = 0.55


def a_hunt(prompts: int = 3) -> Hunt:
    random = np.random.default_rng(0)
    raw = random.gamma(1.0, 0.3, (4, 1, L, H)) + random.gamma(1.0, 0.1, (4, prompts, L, H))
    for layer, head, strength in ((7, 3, 3.0), (6, 1, 2.6), (5, 6, 2.2), (7, 7, 1.9), (3, 2, 1.6)):
        raw[:, :, layer, head] += strength
    names = ("coarse", "plain", "detailed", "list", "yes-no")[:prompts]
    return select(Saliency(*raw), names, D)


def a_manifest(found: Hunt, **changes: Any) -> Manifest:
    def graph(name: str) -> dict[str, Any]:
        frames = {"name": "frames", "dtype": "uint8", "shape": ["n", 1, 448, 448, 3]}
        return {"file": f"{name}.onnx", "precision": "fp32", "inputs": [frames], "outputs": []}

    document = {
        "schema_version": 1,
        "bundle_id": "0" * 64,
        "created": "2025-03-01T12:00:00Z",
        "producer": {"headhunt-vad": "0.1.0", "onnx": "1.23.0"},
        "source_model": {
            "name": "example/vision-language",
            "revision": "0123abc",
            "architecture": "internvl",
            "licence": "Apache-2.0",
        },
        "prompt": {"name": found.prompt, "text": "Does anything unusual <happen> here?"},
        "experts": [{"layer": e.layer, "head": e.head, "rss": e.rss} for e in found.experts],
        "geometry": {"layers": L, "heads": H, "head_dim": D, "width": H * D},
        "segment": {"frames": 48, "sampled": 16, "fps": 24.0},
        "pixels": {"size": 448},
        "graphs": {"vision": graph("vision"), "language": graph("language")},
        "scorer": {"file": "scorer.onnx", "standardised": True, "unit": "segment", "samples": 40, "anomalous": 17},
        "locators": {
            "full": {"sigma": 1.0, "threshold": THRESHOLD, "lookahead": 3, "calibrated": True, "f1": 0.8},
            "low_latency": {"sigma": 0.5, "threshold": 0.6, "lookahead": 0, "calibrated": False},
        },
        "validation": {"auc": 0.91234, "ap": 0.8, "f1": 0.75, "videos": 12, "frames": 14400},
        "parity": {"features_max_abs": 3.2e-7, "scale": 2.5},
        "files": [
            {"path": f"{name}.onnx", "sha256": "0" * 64, "bytes": 1} for name in ("vision", "language", "scorer")
        ],
    } | changes
    return msgspec.convert(document, Manifest)


def a_chance() -> Chance:
    random = np.random.default_rng(7)
    permuted = Permuted(HeadRef(7, 3), 0.84, tuple(random.uniform(0.5, 0.7, 199).tolist()), 1e12)
    compared = Compared(5, 0.82, tuple(random.uniform(0.6, 0.8, 50).tolist()), 0.04, 0.2)
    return Chance(40, 17, L * H, 5, permuted, compared)


def an_embedding(n: int = 40) -> Embedding:
    random = np.random.default_rng(5)
    labels = np.arange(n) % 2 == 0
    expert, last = random.standard_normal((n, 5 * D)), random.standard_normal((n, H * D))
    expert[labels] += 0.9
    last[labels] += 0.3
    return Embedding(expert, last, labels, tuple(f"video {i // 2}" for i in range(n)))
