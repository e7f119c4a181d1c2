"""What can run the graphs, one row each: the only place where the name of a provider is written down.

Engines, sessions, the self-test, `hh-edge doctor` and the choices of both command lines read this table; a new
provider is a new row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from edge_runtime.errors import UsageError
from edge_runtime.inference.triton_address import TLS, parse_address

AUTO = "auto"
# Always there; what the scorer runs on, and what shows whether a graph or its provider is at fault.
CPU = "cpu"
OPENVINO = "openvino"
# A Triton Inference Server somewhere else; with an address it is triton://host:port.
TRITON = "triton"


class Library(Enum):
    """What runs graphs, each by a file of this room."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TRITON = "tritonclient"


@dataclass(frozen=True, slots=True)
class Provider:
    """What can run the graphs, as an operator names it: an execution provider of ONNX Runtime, or another library.

    Attributes:
        name: What `--provider` takes.
        onnxruntime: ONNX Runtime's name for it; None where another library runs it.
        package: What `pip install` gets to bring it, in an environment of its own.
        tolerance: How far a value may be from the builder's, as a share of the largest of its kind, whatever the
            precision of the bundle.
        auto_rank: Its place when `auto` measures, lowest first; None where `auto` never takes it.
        advice: What to do when it is built in and does not load.
        options: ONNX Runtime's options for it.
        library: What runs it.
        memory: What a loaded graph takes of the machine's memory, as a multiple of its weights' size.
        cards: Whether a machine may have several: `cuda:1` is the second.
        device: What ONNX Runtime calls the memory it computes in; `server` where that is another machine's.
        remote: Whether a server runs it: a name is an address then.
    """

    name: str
    onnxruntime: str | None
    package: str
    tolerance: float
    auto_rank: int | None
    advice: str
    options: Mapping[str, str] = field(default_factory=dict)
    library: Library = Library.ONNXRUNTIME
    memory: float = 1.5
    cards: bool = False
    device: str = "cpu"
    remote: bool = False

    @property
    def card(self) -> int:
        """The number of the card, 0 for the first."""
        return int(self.options.get("device_id", 0))

    @property
    def kind(self) -> str:
        """Its name in the table, without the number of a card or the address of a server."""
        return self.name.partition(":")[0].removesuffix(TLS)


_CUDA_ADVICE = "install the CUDA and cuDNN wheels with headhunt-edge[gpu], and look at nvidia-smi"
_REINSTALL = "reinstall ONNX Runtime, or use --provider cpu"

PROVIDERS: dict[str, Provider] = {
    row.name: row
    for row in (
        # float32 as the builder's; only the order of summation differs between processors.
        Provider(CPU, "CPUExecutionProvider", '"headhunt-edge[cpu]"', 1e-3, 2, _REINSTALL),
        # float32 matrix products in TF32: 10 bits of mantissa.
        Provider(
            "cuda",
            "CUDAExecutionProvider",
            '"headhunt-edge[gpu]"',
            1e-2,
            0,
            _CUDA_ADVICE,
            cards=True,
            device="cuda",
        ),
        # TF32 too, in kernels that it chooses anew on each machine. Never chosen by `auto`: it compiles engines for
        # minutes, which somebody should have asked for.
        Provider(
            "tensorrt",
            "TensorrtExecutionProvider",
            '"headhunt-edge[gpu]"',
            2e-2,
            None,
            _CUDA_ADVICE,
            cards=True,
            device="cuda",
        ),
        # OpenVINO itself: ONNX Runtime's build of it lags months behind. Told to compute in float32.
        Provider(
            OPENVINO,
            None,
            '"headhunt-edge[openvino]"',
            1e-3,
            1,
            "reinstall openvino",
            library=Library.OPENVINO,
            memory=2.5,
        ),
        # What runs there is the server's choice, a GPU most likely: TF32. `auto` knows no address.
        Provider(
            TRITON,
            None,
            '"headhunt-edge[triton]"',
            1e-2,
            None,
            "reinstall tritonclient[grpc]",
            library=Library.TRITON,
            memory=0.0,
            device="server",
            remote=True,
        ),
    )
}


def provider_choices() -> list[str]:
    """What `--provider` takes: `auto`, then every row."""
    return [AUTO, *PROVIDERS]


def find_provider(name: str) -> Provider:
    """The row of that name; `cuda:1` is that of `cuda`, for the second card, `triton://host:8001` that of `triton`.

    Raises:
        UsageError: There is none, the message lists what there is; or the address of a server is none.
    """
    kind, colon, card = name.partition(":")
    row = PROVIDERS.get(kind.removesuffix(TLS))
    if row is not None and row.remote and colon:
        parse_address(name)
        return replace(row, name=name)
    if row is None or kind.endswith(TLS):
        raise UsageError(f"unknown provider {name!r}; choose from {', '.join(provider_choices())}")
    if not colon:
        return row
    if not row.cards or not (card.isascii() and card.isdecimal()):
        with_cards = ", ".join(f"{one.name}:1" for one in PROVIDERS.values() if one.cards)
        raise UsageError(f"unknown provider {name!r}; a card is picked by its number, as in {with_cards}")
    return replace(row, name=name, options={**row.options, "device_id": str(int(card))})


def automatic() -> list[Provider]:
    """The rows that `auto` may choose, the best first."""
    ranked = [(row.auto_rank, row.name) for row in PROVIDERS.values() if row.auto_rank is not None]
    return [PROVIDERS[name] for _, name in sorted(ranked)]
