"""A model of Triton's Python backend: runs the graph beside it, or decodes JPEG. Runs on the server alone.

`hh-offline triton` copies this file into a model repository as `model.py`. It imports nothing of headhunt: the
server's machine needs numpy, and onnxruntime or opencv-python-headless, in its own Python or in the folders that the
model's configuration names as `python_path`.

Tensors pass as DLPack in both directions: servers that were built before numpy 2 read its arrays wrongly.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

# As dlpack.h numbers them: unsigned integers and floats, on the CPU.
_UNSIGNED, _FLOAT, _ON_CPU = 1, 2, 1


class _Tensor(ctypes.Structure):
    """DLManagedTensor of dlpack.h."""


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Tensor))
_Tensor._fields_ = [
    ("data", ctypes.c_void_p),
    ("device_type", ctypes.c_int32),
    ("device_id", ctypes.c_int32),
    ("ndim", ctypes.c_int32),
    ("code", ctypes.c_uint8),
    ("bits", ctypes.c_uint8),
    ("lanes", ctypes.c_uint16),
    ("shape", ctypes.POINTER(ctypes.c_int64)),
    ("strides", ctypes.POINTER(ctypes.c_int64)),
    ("byte_offset", ctypes.c_uint64),
    ("manager_ctx", ctypes.c_void_p),
    ("deleter", _Deleter),
]
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
# What the server holds, by the address of its DLManagedTensor.
_held: dict[int, Any] = {}


def _forget(tensor: Any) -> None:
    _held.pop(ctypes.addressof(tensor.contents), None)


_let_go = _Deleter(_forget)


def _capsule(array: Any) -> Any:
    """An array (C order, on the CPU) as a DLPack capsule; its memory lives until the server lets go of it.

    Not numpy's own: its destructor does not know the name that the server gives to a capsule that it has taken.
    """
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    code = _FLOAT if array.dtype.kind == "f" else _UNSIGNED
    bits = 8 * array.dtype.itemsize
    tensor = _Tensor(array.ctypes.data, _ON_CPU, 0, array.ndim, code, bits, 1, shape, None, 0, None, _let_go)
    _held[ctypes.addressof(tensor)] = (tensor, array, shape)
    return _new_capsule(ctypes.addressof(tensor), b"dltensor", None)


class TritonPythonModel:
    """One instance, as the Python backend makes it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph, or find OpenCV.

        Args:
            args: Of the backend: `model_config` as JSON, `model_repository`, `model_version`, and where it runs.

        Raises:
            RuntimeError: The graph does not load, or not on the GPU that was asked for.
        """
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        # The backend hands no PYTHONPATH on. Last: what the server's own Python has comes first.
        sys.path += [folder for folder in parameters.get("python_path", "").split(os.pathsep) if folder]
        self._given, self._made = config["input"][0]["name"], config["output"][0]["name"]
        self._run: Callable[[Any], Any]
        if parameters["task"] == "decode":
            self._run = _decoder(tuple(int(dim) for dim in config["output"][0]["dims"][1:]))
        else:
            self._run = self._graph(args, int(parameters.get("threads", "0")))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run requests of the same shape as one batch.

        Args:
            requests: As the dynamic batcher put them together.

        Returns:
            A response each, in their order; an error for those that fail.
        """
        import numpy as np
        import triton_python_backend_utils as backend

        values = [np.from_dlpack(backend.get_input_tensor_by_name(request, self._given)) for request in requests]
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, value in enumerate(values):
            alike[value.shape[1:]].append(place)
        responses: list[Any] = [None] * len(requests)
        for places in alike.values():
            ends = np.cumsum([len(values[place]) for place in places])[:-1]
            try:
                made = self._run(np.concatenate([values[place] for place in places]))
            except Exception as error:  # noqa: BLE001  libraries raise many kinds; each becomes an answer
                for place in places:
                    responses[place] = backend.InferenceResponse(error=backend.TritonError(str(error)))
                continue
            for place, part in zip(places, np.split(made, ends), strict=True):
                tensor = backend.Tensor.from_dlpack(self._made, _capsule(np.ascontiguousarray(part)))
                responses[place] = backend.InferenceResponse([tensor])
        return responses

    def _graph(self, args: dict[str, str], threads: int) -> Callable[[Any], Any]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        provider, chosen = "CPUExecutionProvider", {}
        if args["model_instance_kind"] == "GPU":
            provider, chosen = "CUDAExecutionProvider", {"device_id": args["model_instance_device_id"]}
        graph = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        session = onnxruntime.InferenceSession(graph, options, providers=[(provider, chosen)], enable_fallback=0)
        if session.get_providers()[0] != provider:
            raise RuntimeError(f"onnxruntime does not load {provider}; install onnxruntime-gpu, or serve on the CPU")
        return lambda batch: session.run([self._made], {self._given: batch})[0]


def _decoder(shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """JPEG files uint8 (b, f, L), zeros behind each, to frames uint8 (b, f, H, W, 3) in RGB."""
    import cv2
    import numpy as np

    def decode(files: Any) -> Any:
        frames = np.empty((*files.shape[:2], *shape), np.uint8)
        for place in np.ndindex(*files.shape[:2]):
            picture = cv2.imdecode(files[place], cv2.IMREAD_COLOR)
            if picture is None or picture.shape != shape:
                raise ValueError(f"frame {place} is no JPEG picture of {shape[1]} x {shape[0]}")
            frames[place] = picture[..., ::-1]
        return frames

    return decode
