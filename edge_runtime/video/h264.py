"""Notices frames that are missing in an H.264 stream, which FFmpeg's decoder fills in without a word.

H.265 needs no such thing: its frames name those that they depend on, and the decoder says which are not there.
"""

from __future__ import annotations

from dataclasses import dataclass

_SLICE, _KEY_SLICE, _SEQUENCE, _PICTURE = 1, 5, 7, 8
# Sequence parameters of these profiles say more (ITU-T H.264, 7.3.2.1.1).
_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
# What is read of a NAL unit lies in its first bytes; sequence parameters are short as a whole.
_HEADER = 32
_PARAMETERS = 1024


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What the sequence parameters say of `frame_num`: its bits, and whether it may skip numbers."""

    bits: int
    gaps: bool
    planes: bool


class FrameNumbers:
    """Follows `frame_num` through the packets of one stream in Annex B form, in decoding order.

    A frame that others depend on raises it by one, so that a lost one leaves a hole. The loss of any other frame
    harms none, and is not noticed.
    """

    def __init__(self) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._sequence_of: dict[int, int] = {}
        self._last: int | None = None

    def missing(self, packet: bytes) -> bool:
        """Whether a frame is missing just before the one in `packet`. False too where that cannot be read."""
        start = 0
        while (start := packet.find(b"\0\0\1", start)) >= 0:
            start += 3
            if start >= len(packet):
                break
            kind = packet[start] & 0x1F
            try:
                if kind == _SEQUENCE:
                    self._take_sequence(_Bits(packet[start + 1 : start + _PARAMETERS]))
                elif kind == _PICTURE:
                    bits = _Bits(packet[start + 1 : start + _HEADER])
                    picture = bits.unsigned()
                    self._sequence_of[picture] = bits.unsigned()
                elif kind in (_SLICE, _KEY_SLICE):
                    # All slices of a frame say the same.
                    header = _Bits(packet[start + 1 : start + _HEADER])
                    return self._take_slice(header, kind == _KEY_SLICE, bool(packet[start] & 0x60))
            except IndexError:
                return False
        return False

    def _take_sequence(self, bits: _Bits) -> None:
        profile = bits.take(8)
        bits.take(16)
        number = bits.unsigned()
        planes = False
        if profile in _HIGH_PROFILES:
            chroma = bits.unsigned()
            planes = chroma == 3 and bits.take(1) == 1
            bits.unsigned()
            bits.unsigned()
            bits.take(1)
            if bits.take(1):
                for which in range(12 if chroma == 3 else 8):
                    if bits.take(1):
                        bits.skip_scaling_list(16 if which < 6 else 64)
        length = bits.unsigned() + 4
        order = bits.unsigned()
        if order == 0:
            bits.unsigned()
        elif order == 1:
            bits.take(1)
            bits.unsigned()
            bits.unsigned()
            for _ in range(min(bits.unsigned(), 255)):
                bits.unsigned()
        bits.unsigned()
        self._sequences[number] = _Sequence(length, bits.take(1) == 1, planes)

    def _take_slice(self, bits: _Bits, key: bool, reference: bool) -> bool:
        bits.unsigned()
        bits.unsigned()
        sequence = self._sequences.get(self._sequence_of.get(bits.unsigned(), -1))
        if sequence is None or sequence.gaps:
            return False
        if sequence.planes:
            bits.take(2)
        number, last = bits.take(sequence.bits), self._last
        numbers = 1 << sequence.bits
        missing = not key and last is not None and (number - last) % numbers > 1
        if reference:
            self._last = number
        elif missing:
            self._last = (number - 1) % numbers  # told once
        return missing


class _Bits:
    """Reads bits and Exp-Golomb codes. IndexError behind the end."""

    def __init__(self, data: bytes) -> None:
        # A 3 after two zeros is put in by the encoder, so that no start code appears inside.
        self._data = data.replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def take(self, count: int) -> int:
        value = 0
        for at in range(self._at, self._at + count):
            value = value << 1 | self._data[at >> 3] >> (7 - (at & 7)) & 1
        self._at += count
        return value

    def unsigned(self) -> int:
        zeros = 0
        while self.take(1) == 0:
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_scaling_list(self, length: int) -> None:
        last = following = 8
        for _ in range(length):
            if following:
                code = self.unsigned()
                following = (last + (code + 1 >> 1 if code & 1 else -(code >> 1))) % 256
            last = following or last
