"""The three graphs of a bundle, run one after the other. Knows arrays; nothing of cameras, time or files' hashes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.errors import InferenceFailed, first_line
from edge_runtime.inference.engine import FloatArray
from edge_runtime.inference.sessions import choose_provider, load_onnxruntime, open_session
from edge_runtime.stream.pixels import UInt8Array


class OnnxEngine:
    """Frames to expert features: `vision` and `language`. The scorer is fitted on what this gives."""

    def __init__(
        self, vision: Path, language: Path, provider: str = "auto", threads: int | None = None, group: int = 1
    ) -> None:
        self.provider = choose_provider(provider)
        self._vision = open_session(vision, self.provider, threads)
        self._language = open_session(language, self.provider, threads)
        self._group = group
        self._run = load_onnxruntime().RunOptions()

    def abandon(self) -> None:
        """Fail every run from now on, the one in progress included; from any thread, and for good."""
        self._run.terminate = True

    def close(self) -> None:
        """Give the graphs' memory back; calls after this fail."""
        self._vision = self._language = None

    def tokens(self, frames: UInt8Array) -> FloatArray:
        """Visual tokens of segments.

        frames: uint8 (b, F, S, S, 3). Returns float32 (b, n·T, D), n = F / g groups of g frames.
        """
        batch, sampled, height, width, channels = frames.shape
        groups = frames.reshape(-1, self._group, height, width, channels)
        (tokens,) = self._vision.run(["tokens"], {"frames": groups}, self._run)
        return np.asarray(tokens).reshape(batch, (sampled // self._group) * tokens.shape[1], tokens.shape[2])

    def language(self, tokens: FloatArray) -> FloatArray:
        """Expert features of visual tokens. tokens: (b, n·T, D). Returns float32 (b, K·d) in expert order."""
        (features,) = self._language.run(["features"], {"tokens": tokens}, self._run)
        return np.asarray(features, dtype=np.float32)

    def features(self, frames: UInt8Array) -> FloatArray:
        """Expert features of segments.

        frames: uint8 (b, F, S, S, 3). Returns float32 (b, K·d). Raises InferenceFailed where a graph fails or
        a value is not finite.
        """
        try:
            features = self.language(self.tokens(frames))
        except Exception as error:
            raise InferenceFailed(f"the graphs failed: {first_line(error)}") from error
        if not np.isfinite(features).all():
            raise InferenceFailed("the language graph gave features that are not finite")
        return features
