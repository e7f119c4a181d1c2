"""A scorer is used on the device that signed it, for the bundle that it is for, and with every byte as it was."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_runtime.errors import BundleRefused, HeadHuntError
from edge_runtime.site.seal import Seal

BUNDLE, OTHER = "0" * 64, "1" * 64
PAYLOAD = '{"weights": [0.25]}'


def test_a_payload_goes_there_and_back(tmp_path: Path) -> None:
    content = Seal(tmp_path).close(BUNDLE, PAYLOAD)
    assert Seal(tmp_path).open(BUNDLE, content, "it").decode() == PAYLOAD


def test_another_device_and_another_bundle_refuse_it(tmp_path: Path) -> None:
    content = Seal(tmp_path / "mine").close(BUNDLE, PAYLOAD)
    with pytest.raises(
        BundleRefused, match=r"it: signed by .* none of them is trusted here.*accept one on this device"
    ):
        Seal(tmp_path / "yours").open(BUNDLE, content, "it")
    with pytest.raises(BundleRefused, match="was signed for"):
        Seal(tmp_path / "mine").open(OTHER, content, "it")


def test_no_byte_of_it_can_be_changed(tmp_path: Path) -> None:
    """Refused, or the very same payload: a blank between two keys means nothing."""
    seal = Seal(tmp_path)
    content = seal.close(BUNDLE, PAYLOAD)
    refused = tried = 0
    for place in range(len(content.rstrip())):
        with pytest.raises(HeadHuntError):
            seal.open(BUNDLE, content[:place], "it")
        for byte in {content[place] ^ 1, content[place] ^ 32, 0x20} - {content[place]}:
            changed = content[:place] + bytes([byte]) + content[place + 1 :]
            tried += 1
            try:
                assert seal.open(BUNDLE, changed, "it").decode() == PAYLOAD
            except HeadHuntError:
                refused += 1
    assert refused > 0.9 * tried


def test_an_unsigned_one_is_used_only_where_nothing_can_be_signed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    without = Seal(tmp_path, signs=False)
    with caplog.at_level(logging.WARNING):
        content = without.close(BUNDLE, PAYLOAD)
        assert without.open(BUNDLE, content, "it").decode() == PAYLOAD
        assert without.open(BUNDLE, content, "it").decode() == PAYLOAD
    assert caplog.text.count("headhunt-edge[sign]") == 1
    with pytest.raises(BundleRefused, match="it: is not signed with this device's key"):
        Seal(tmp_path).open(BUNDLE, content, "it")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"format": "headhunt-unsigned"}', b"{" * 1000])
@pytest.mark.parametrize("signs", [True, False])
def test_nonsense_is_refused_in_one_line(tmp_path: Path, content: bytes, signs: bool) -> None:
    with pytest.raises(BundleRefused) as refused:
        Seal(tmp_path, signs=signs).open(BUNDLE, content, "it")
    assert "\n" not in str(refused.value)


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    Seal(tmp_path / "state").close(BUNDLE, PAYLOAD)
    key = tmp_path / "state" / "device.key"
    assert key.stat().st_mode & 0o077 == 0
    key.chmod(0o644)
    with pytest.raises(HeadHuntError, match="others than its owner"):
        Seal(tmp_path / "state").close(BUNDLE, PAYLOAD)
