"""The graphs of a bundle on a Triton Inference Server: frames go there, expert features come back.

Cutting, sampling, pixels, scorer, smoothing and events stay here. What does not come back is a failure: the segment
becomes a gap.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.errors import InferenceFailed, UsageError, first_line
from edge_runtime.files import printable
from edge_runtime.inference.engine import FloatArray
from edge_runtime.inference.providers import TRITON
from edge_runtime.inference.triton_address import TritonAddress, parse_address
from edge_runtime.inference.triton_connection import ServerFailed, load_tritonclient
from edge_runtime.inference.triton_names import (
    jpeg_model,
    jpeg_tokens_model,
    language_model,
    segment_model,
    vision_model,
)
from edge_runtime.inference.triton_replicas import Replica, Replicas, Served
from edge_runtime.stream.pixels import UInt8Array

_TYPES: dict[str, tuple[np.dtype[Any], str]] = {
    "float32": (np.dtype(np.float32), "FP32"),
    "float16": (np.dtype(np.float16), "FP16"),
}


class TritonEngine:
    """An `Engine` on one Triton server or several, which serve what `hh-offline triton` wrote.

    Every call ends within the address's deadline. A server that fails is left alone for a moment and another one
    asked; one that comes back is used again, once it was seen to serve the same bundle.

    Args:
        manifest: Of the bundle.
        address: `triton://host:port[,host:port]`, as of `triton_address`; or what that module makes of it.

    Raises:
        MissingExtra: tritonclient is not installed.
        ProviderUnavailable: No server answers, or one does not serve this bundle.
        UsageError: The address is none.

    Attributes:
        provider: `triton`.
        loss: How far the golden features are from the builder's after JPEG, as a share of their scale, as the build
            measured; 0 where frames travel as they are.
    """

    def __init__(self, manifest: Manifest, address: str | TritonAddress) -> None:
        self.provider = TRITON
        self._address = parse_address(address) if isinstance(address, str) else address
        graphs = manifest.graphs
        self._group = graphs.frames_per_group
        self._features = manifest.feature_size
        self._tokens = tuple(int(dim) for dim in graphs.vision.outputs[0].shape[1:])
        self._token_type, self._token_name = _TYPES[graphs.vision.outputs[0].dtype]
        self._module = load_tritonclient()
        self._closed = False
        self._replicas = Replicas(self._address, manifest.bundle_id)
        try:
            self.loss = max(served.loss for served in self._replicas.open())
        except BaseException:
            self._replicas.close()
            raise

    @property
    def lossless(self) -> LosslessTriton | TritonEngine:
        """See LossyEngine."""
        return self if self._address.wire == "raw" else LosslessTriton(self)

    def abandon(self) -> None:
        """See Engine."""
        self._replicas.abandon()

    def close(self) -> None:
        """See Engine."""
        self._closed = True
        self._replicas.close()

    def tokens(self, frames: UInt8Array) -> FloatArray:
        """See Engine; any number of whole groups of frames."""
        return self._tokens_of(frames)

    def _tokens_of(self, frames: UInt8Array, lossless: bool = False) -> FloatArray:
        per_group, width = self._tokens
        shape = (frames.shape[1] // self._group * per_group, width)
        return self._of_frames(frames, "tokens", shape, self._token_type, lossless)

    def language(self, tokens: FloatArray) -> FloatArray:
        """See Engine."""

        def ask(replica: Replica, served: Served, part: NDArray[Any], allowed_s: float) -> Any:
            given = self._input("tokens", part, self._token_name)
            model = language_model(served.base), served.version
            return self._replicas.infer(replica, model, given, "features", allowed_s)

        tokens = np.ascontiguousarray(tokens, dtype=self._token_type)
        return self._in_parts(tokens, ask, (self._features,), np.dtype(np.float32), "features")

    def features(self, frames: UInt8Array) -> FloatArray:
        """See Engine: one request, whatever the number of segments up to what the server takes at once."""
        return self._of_frames(frames, "features", (self._features,), np.dtype(np.float32))

    def _of_frames(
        self,
        frames: UInt8Array,
        output: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        lossless: bool = False,
    ) -> FloatArray:
        def ask(replica: Replica, served: Served, part: NDArray[Any], allowed_s: float) -> Any:
            if served.quality is not None and not lossless:
                given = self._input("jpeg", encode_jpeg(part, served.quality), "UINT8")
                of_jpeg = jpeg_tokens_model if output == "tokens" else jpeg_model
                model = of_jpeg(served.base, served.version), 1
            else:
                given = self._input("frames", part, "UINT8")
                if output == "tokens":
                    model = vision_model(served.base), served.version
                else:
                    model = segment_model(served.base, served.version), 1
            return self._replicas.infer(replica, model, given, output, allowed_s)

        return self._in_parts(np.ascontiguousarray(frames), ask, shape, dtype, output)

    def _in_parts(
        self, values: NDArray[Any], ask: Any, shape: tuple[int, ...], dtype: np.dtype[Any], what: str
    ) -> FloatArray:
        """All segments (b, …), as many in a request as the server takes; checked as they come."""
        if self._closed:
            self._refuse()
        parts: list[NDArray[Any]] = []
        done = 0
        # Of all parts together.
        end_s = self._replicas.deadline_s()
        while done < len(values):

            def once(replica: Replica, served: Served, allowed_s: float, done: int = done) -> NDArray[Any]:
                part = values[done : done + served.most]
                try:
                    answer = ask(replica, served, part, allowed_s)
                except ServerFailed:
                    raise
                except Exception as error:
                    raise InferenceFailed(f"the request failed: {printable(first_line(error))}") from error
                return checked(answer, (len(part), *shape), dtype, f"Triton server {replica.place}: its {what}")

            parts.append(self._replicas.call(once, end_s))
            done += len(parts[-1])
        return np.concatenate(parts) if parts else np.empty((0, *shape), dtype)

    def _input(self, name: str, values: NDArray[Any], kind: str) -> Any:
        given = self._module.InferInput(name, list(values.shape), kind)
        given.set_data_from_numpy(values)
        return given

    @staticmethod
    def _refuse() -> NoReturn:
        raise UsageError("the engine was closed; open a new one")


class LosslessTriton:
    """A `TritonEngine` whose frames travel as they are, whatever was chosen: to compare graphs with the builder's."""

    def __init__(self, engine: TritonEngine) -> None:
        self._engine = engine

    def tokens(self, frames: UInt8Array) -> FloatArray:
        """See Engine."""
        return self._engine._tokens_of(frames, lossless=True)

    def language(self, tokens: FloatArray) -> FloatArray:
        """See Engine."""
        return self._engine.language(tokens)


def checked(answer: Any, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """Pass on what a server gave, where it is what it must be.

    Raises:
        ServerFailed: Another shape or type, or a value that is not finite.
    """
    if not isinstance(answer, np.ndarray):
        raise ServerFailed(f"{what} are missing from its answer", passing=False)
    if answer.shape != shape or answer.dtype != dtype:
        raise ServerFailed(f"{what} are {answer.dtype} {answer.shape}, expected are {dtype} {shape}", passing=False)
    if not np.isfinite(answer).all():
        raise ServerFailed(f"{what} are not finite", passing=False)
    return answer


def encode_jpeg(frames: UInt8Array, quality: int) -> UInt8Array:
    """Frames as JPEG files.

    Args:
        frames: uint8 (b, f, H, W, 3), RGB.
        quality: 1 to 100.

    Returns:
        uint8 (b, f, L), L the length of the longest; the others have zeros behind them.

    Raises:
        InferenceFailed: OpenCV cannot encode one.
    """
    import cv2

    # Colours at full resolution: pictures are small already.
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]
    files: list[UInt8Array] = []
    for place in np.ndindex(*frames.shape[:2]):
        # OpenCV takes BGR.
        done, data = cv2.imencode(".jpg", frames[place][..., ::-1], options)
        if not done:
            raise InferenceFailed("a frame could not be encoded as JPEG")
        files.append(np.asarray(data, dtype=np.uint8).reshape(-1))
    padded = np.zeros((len(files), max(map(len, files), default=0)), np.uint8)
    for row, file in zip(padded, files, strict=True):
        row[: len(file)] = file
    return padded.reshape(*frames.shape[:2], -1)


def decode_jpeg(files: UInt8Array, height: int, width: int) -> UInt8Array:
    """What a server makes of them: uint8 (b, f, H, W, 3), RGB; ValueError where one is no such picture."""
    import cv2

    frames = np.empty((*files.shape[:2], height, width, 3), np.uint8)
    for place in np.ndindex(*files.shape[:2]):
        picture = cv2.imdecode(files[place], cv2.IMREAD_COLOR)
        if picture is None or picture.shape != (height, width, 3):
            raise ValueError(f"frame {place} is no JPEG picture of {width} x {height}")
        frames[place] = picture[..., ::-1]
    return frames
