"""Golden segments are read only as what the manifest implies, and nothing is inflated to find that out."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from edge_runtime.bundle.golden import GOLDEN, check_golden, read_golden
from edge_runtime.errors import BundleRefused

NAMES = ("frames", "tokens", "features", "probabilities")


@pytest.fixture(scope="module")
def arrays(bundle) -> dict[str, np.ndarray]:
    return dict(np.load(bundle.file(GOLDEN)))


def refused(bundle, path, reason: str) -> None:
    for read in (check_golden, read_golden):
        with pytest.raises(BundleRefused, match=reason) as caught:
            read(path, bundle.manifest)
        assert str(caught.value).startswith("golden.npz: cannot be read (")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_a_build_writes_is_read_as_it_was(bundle, arrays, tmp_path, save):
    save(tmp_path / GOLDEN, **arrays)
    check_golden(tmp_path / GOLDEN, bundle.manifest)
    golden = read_golden(tmp_path / GOLDEN, bundle.manifest)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(golden, name), arrays[name])
        assert getattr(golden, name).dtype == arrays[name].dtype


def test_one_segment_is_enough(bundle, arrays, tmp_path):
    np.savez(tmp_path / GOLDEN, **{name: array[:1] for name, array in arrays.items()})
    assert read_golden(tmp_path / GOLDEN, bundle.manifest).probabilities.shape == (1,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda array: array[:0], "has 0 segments"),
        (lambda array: np.concatenate([array, array[:1]]), "inflates to|has 3 segments|has .* bytes"),
        (lambda array: array[:1], "differ in their number of segments"),
        (lambda array: array[..., None], "expected is"),
        (lambda array: array[0], "expected is|has 96 segments"),
        (lambda array: array.astype(np.float64), "expected is|inflates to|has .* bytes"),
        (lambda array: array.astype(array.dtype.newbyteorder(">")) if array.itemsize > 1 else array[..., :1], "is"),
        (lambda array: array.astype(object), "is object|inflates to|has .* bytes"),
    ],
    ids=["none", "three", "one", "rank", "no segments", "double", "big-endian", "objects"],
)
def test_another_array(bundle, arrays, tmp_path, name, spoil, reason):
    np.savez(tmp_path / GOLDEN, **(arrays | {name: spoil(arrays[name])}))
    refused(bundle, tmp_path / GOLDEN, reason)


def test_the_order_of_fortran(bundle, arrays, tmp_path):
    np.savez(tmp_path / GOLDEN, **(arrays | {"tokens": np.asfortranarray(arrays["tokens"])}))
    refused(bundle, tmp_path / GOLDEN, "in Fortran's order")


@pytest.mark.parametrize("names", [(), NAMES[1:], (*NAMES, "more\x1b")], ids=["none", "less", "more"])
def test_other_members(bundle, arrays, tmp_path, names):
    np.savez(tmp_path / GOLDEN, **{name: arrays.get(name, np.zeros(1)) for name in names})
    refused(bundle, tmp_path / GOLDEN, r"it holds .*, expected are frames, tokens, features, probabilities")
    with pytest.raises(BundleRefused) as caught:
        check_golden(tmp_path / GOLDEN, bundle.manifest)
    assert "\x1b" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice(bundle, arrays, tmp_path):
    np.savez(tmp_path / GOLDEN, **arrays)
    with zipfile.ZipFile(tmp_path / GOLDEN, "a") as archive:
        archive.writestr("tokens.npy", b"")
    refused(bundle, tmp_path / GOLDEN, "it holds .*tokens.npy, tokens.npy")


def npy(shape: tuple[int, ...], data: bytes, descr: str = "<f4", version: bytes = b"\1\0") -> bytes:
    """An array as a file, whose header may say anything."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode() + b"\n"
    size = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + header + data


def archive(path, arrays, member: str, content: bytes, method: int) -> None:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, array in arrays.items():
            plain = io.BytesIO()
            np.save(plain, array)
            file.writestr(f"{name}.npy", content if name == member else plain.getvalue())


class TestBombs:
    def taken(self, bundle, path) -> int:
        """Most memory that is taken at once while it is refused."""
        tracemalloc.start()
        try:
            with pytest.raises(BundleRefused):
                read_golden(path, bundle.manifest)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    @pytest.mark.parametrize("member", ["tokens", "probabilities"])
    def test_an_array_that_inflates_without_end(self, bundle, arrays, tmp_path, method, member):
        content = npy((2**24,), bytes(2**26))
        archive(tmp_path / GOLDEN, arrays, member, content, method)
        assert (tmp_path / GOLDEN).stat().st_size < 2**20
        assert self.taken(bundle, tmp_path / GOLDEN) < 2**20

    def test_a_header_that_inflates_without_end(self, bundle, arrays, tmp_path):
        content = b"\x93NUMPY\2\0" + (2**26).to_bytes(4, "little") + b" " * 2**26
        archive(tmp_path / GOLDEN, arrays, "probabilities", content, zipfile.ZIP_DEFLATED)
        assert self.taken(bundle, tmp_path / GOLDEN) < 2**20

    def test_a_method_that_inflates_block_by_block(self, bundle, arrays, tmp_path):
        plain = io.BytesIO()
        np.save(plain, arrays["tokens"])
        archive(tmp_path / GOLDEN, arrays, "tokens", plain.getvalue(), zipfile.ZIP_LZMA)
        refused(bundle, tmp_path / GOLDEN, "compressed by a method")

    def test_a_header_that_says_less_than_there_is(self, bundle, arrays, tmp_path):
        content = npy((2,), bytes(4096))
        archive(tmp_path / GOLDEN, arrays, "probabilities", content, zipfile.ZIP_STORED)
        refused(bundle, tmp_path / GOLDEN, "probabilities takes 8 bytes, but has 4096")

    def test_a_header_of_a_newer_format(self, bundle, arrays, tmp_path):
        archive(tmp_path / GOLDEN, arrays, "probabilities", npy((2,), bytes(8), version=b"\3\0"), zipfile.ZIP_STORED)
        refused(bundle, tmp_path / GOLDEN, r"unknown format \(3, 0\)")

    def test_a_file_that_is_mostly_something_else(self, bundle, tmp_path):
        content = bundle.file(GOLDEN).read_bytes()
        (tmp_path / GOLDEN).write_bytes(bytes(2**20) + content)  # what stands before an archive is passed over
        refused(bundle, tmp_path / GOLDEN, "bytes, its arrays and headers take")


def test_damage_inside_an_array_is_found_when_it_is_read(bundle, arrays, tmp_path):
    content = bytearray(bundle.file(GOLDEN).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / GOLDEN).write_bytes(content)
    check_golden(tmp_path / GOLDEN, bundle.manifest)
    with pytest.raises(BundleRefused, match="CRC"):
        read_golden(tmp_path / GOLDEN, bundle.manifest)


def test_no_more_memory_than_the_arrays_take(bundle, arrays, tmp_path):
    np.savez_compressed(tmp_path / GOLDEN, **arrays)
    tracemalloc.start()
    read_golden(tmp_path / GOLDEN, bundle.manifest)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < sum(array.nbytes for array in arrays.values()) + 2**21
