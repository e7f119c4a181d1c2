"""Tells pictures that are worth nothing, though frames keep coming: a covered or black camera, and a frozen one.

Both are told late rather than falsely: a camera in a dark, foggy or empty place must raise nothing all night.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.records import Quality
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import ROUNDING_S

#: Looks are at least this far apart in turn, in seconds. Frames between them are passed over. Not evenly: an encoder
#: that swings between two pictures would show the same one at every look.
LOOKS_S = 0.3, 0.4, 0.5
#: Longest time without a look before a picture should be fetched for one, in seconds.
OVERDUE_S = 1.0

# What a look keeps of a picture: every so many rows, so that a digit of an on-screen clock is hit by several of them.
_ROWS = 4
# Blocks whose means are compared: at most so many a side, and of small pictures as many as have 8 pixels a side.
_BLOCKS_WIDE, _BLOCKS_HIGH, _BLOCK = 96, 54, 8
# Names and clocks that the camera writes into its picture stand at the top and the bottom: they show on a cap, too.
_STRIP = 1 / 8
# Contrast of the 8th strongest block: below the first nothing is seen, above the last something clearly is.
_STRONGEST, _BARE, _SEEN, _CLEAR = 8, 4.0, 6.0, 12.0
# Values of a picture without anything, not even noise, lie this close together.
_UNIFORM = 2


@dataclass(frozen=True, slots=True)
class QualityChange:
    """What is wrong with the picture from now on.

    Attributes:
        qualities: All that is; empty where nothing is any more.
        detail: One line for a person.
        seconds: When it was told.
    """

    qualities: tuple[Quality, ...]
    detail: str
    seconds: float


class QualityWatch:
    """Looks at some pictures of one camera and tells when they become covered or frozen, and when that ends.

    A look at 1920 x 1080 takes about 0.7 ms on one core; of the picture only every fourth row is read and kept.

    Not to be shared between threads.
    """

    def __init__(self) -> None:
        self._covered = Covered()
        self._frozen = Frozen()
        self._looked_s: float | None = None
        self._looks = 0
        self._key: bool | None = None
        self._told: tuple[Quality, ...] = ()
        self._before: UInt8Array | None = None

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """What is wrong with the picture, as told last."""
        return self._told

    def due(self, seconds: float) -> bool:
        """Whether a picture of this time would be looked at."""
        gap_s = LOOKS_S[self._looks % len(LOOKS_S)] - ROUNDING_S
        return self._looked_s is None or not 0 <= seconds - self._looked_s < gap_s

    def overdue(self, seconds: float) -> bool:
        """Whether a picture of this time should be fetched for a look, though nobody else wants it."""
        return self._looked_s is None or not 0 <= seconds - self._looked_s < OVERDUE_S

    def pass_by(self, key: bool | None) -> None:
        """Say of every frame, before it is looked at if it is, whether it is a keyframe; None where nothing tells."""
        if key is not None:
            self._key = bool(self._key) or key

    def push(self, picture: UInt8Array, seconds: float) -> QualityChange | None:
        """Look at a picture, unless the last look was a moment ago (`LOOKS_S`).

        Args:
            picture: uint8 (h, w, 3), as the camera gave it: not resized, which would take away its noise.
            seconds: Its time.

        Returns:
            What changed, if something did.
        """
        if not self.due(seconds):
            return None
        self._looked_s = seconds
        self._looks += 1
        key, self._key = self._key, None if self._key is None else False
        rows = picture[:: min(_ROWS, max(1, picture.shape[0] // (_BLOCKS_HIGH * 2)))]
        means = block_means(rows)
        before, self._before = self._before, means
        if before is None or before.shape != means.shape:
            # Another size is another picture: nothing of it was seen before.
            self._frozen.interrupt()
            before = None
        visible = None if before is None else lasting_contrast(before, means)
        moved = before is not None and bool((np.abs(means.astype(np.int16) - before) > Frozen.MOVED).any())
        bare = visible is not None and visible < _BARE
        frozen = self._frozen.push(zlib.crc32(rows.tobytes()), moved, key, seconds)
        empty = self._frozen.identical_s(seconds) >= Covered.EMPTY_S and is_uniform(rows)
        covered = self._covered.push(visible, empty, seconds)
        # Nothing is there that could move: a dark picture without noise repeats itself, and `covered` judges it.
        frozen = frozen and not bare
        found: tuple[Quality, ...] = (*(("covered",) if covered else ()), *(("frozen",) if frozen else ()))
        if found == self._told:
            return None
        self._told = found
        return QualityChange(found, self._detail(), seconds)

    def interrupt(self) -> None:
        """Say that frames are missing here: the next picture does not follow the last one.

        What was told stays until pictures say otherwise, and so does what is known of the place.
        """
        self._before = None
        self._frozen.interrupt()

    def _detail(self) -> str:
        told = {
            "covered": "the picture shows nothing: the lens is covered, or there is no light",
            "frozen": "frames come, but the picture is frozen",
        }
        return "; ".join(told[quality] for quality in self._told) or "the picture is good again"


class Covered:
    """Tells from the contrast of successive looks whether the camera has stopped showing anything.

    Black, white, grey, out of focus before a hand: all have no contrast that lasts from one look to the next. So has
    an unlit place at night, for hours, and thick fog; what tells these apart is how they come. `covered` is told

    - 6 s and 5 looks after contrast is gone that was clear within the 5 s before: dusk and fog take minutes. It must
      have been clear for 5 s, or after a bare stretch for as long as that was, at least one minute and at most
      ten, so that headlights that pass through a dark place do not count as its usual view;
    - after 10 s of a picture that is uniform to two grey levels and identical to the bit, over a keyframe as of
      `Frozen`, where the run has never seen anything else: a camera whose sensor is dead. Darkness has noise, and
      where an encoder takes it away, some is left in the next keyframe.

    A lamp that is the only light of a room and is switched off counts as well: the camera shows nothing from then on.
    Not told: a lens that is covered in the dark, or while the run does not read the camera, if noise is left.

    It ends when contrast has been back for 2 s.
    """

    HOLD_S, HOLD_LOOKS = 6.0, 5
    EMPTY_S = 10.0
    SUDDEN_S = 5.0
    ARM_S = 5.0
    BACK_S = 2.0
    LEAST_REARM_S, MOST_REARM_S = 60.0, 600.0

    def __init__(self) -> None:
        self._told = False
        # Since when nothing is seen.
        self._bare_s: float | None = None
        self._bare_looks = 0
        self._sudden = False
        # Since when something is seen again, the last clear look, and since when looks have been clear.
        self._seen_s: float | None = None
        self._clear_s: float | None = None
        self._clear_since_s: float | None = None
        self._arm_s = self.ARM_S
        self._ever_seen = False
        # Whether it was told for being empty alone: then noise ends it, even in the dark.
        self._empty = False

    def push(self, visible: float | None, empty: bool, seconds: float) -> bool:
        """Take a look.

        Args:
            visible: Lasting contrast, None where there is no look before.
            empty: Whether pictures have had one value everywhere, and no noise, for `EMPTY_S`.
            seconds: Its time.

        Returns:
            Whether the camera counts as covered.
        """
        if visible is None:
            return self._told
        if visible < _BARE:
            self._bare(empty, seconds)
        elif visible > _SEEN:
            self._see(visible, seconds)
        return self._told

    def _bare(self, empty: bool, seconds: float) -> None:
        if self._bare_s is None:
            self._bare_s, self._bare_looks = seconds, 0
            self._sudden = self._is_armed(seconds)
        self._bare_looks += 1
        self._seen_s = None
        lost = self._sudden and seconds - self._bare_s >= self.HOLD_S and self._bare_looks >= self.HOLD_LOOKS
        if self._empty or not self._told:
            self._empty = empty and not self._ever_seen
            self._told = lost or self._empty

    def _is_armed(self, seconds: float) -> bool:
        if self._clear_s is None or self._clear_since_s is None:
            return False
        return seconds - self._clear_s <= self.SUDDEN_S and self._clear_s - self._clear_since_s >= self._arm_s

    def _see(self, visible: float, seconds: float) -> None:
        if self._seen_s is None:
            self._seen_s = seconds
        if self._bare_s is not None:
            if self._told and seconds - self._seen_s < self.BACK_S:
                return
            lasted_s = self._seen_s - self._bare_s
            # Shorter ones, as of an infrared filter that is switched, do not make another place of it.
            if self._told and lasted_s < self.MOST_REARM_S:
                self._clear_since_s, self._arm_s = None, self.ARM_S
            elif lasted_s >= self.HOLD_S or not self._ever_seen:
                self._clear_since_s = None
                self._arm_s = min(self.MOST_REARM_S, max(self.LEAST_REARM_S, lasted_s))
            self._bare_s = None
            self._told = self._empty = False
        if visible > _CLEAR:
            self._ever_seen = True
            self._clear_s = seconds
            if self._clear_since_s is None:
                self._clear_since_s = seconds


class Frozen:
    """Tells from the digests of successive looks whether the picture repeats itself.

    A sensor's noise makes every picture another one. A frozen one stays the same to the bit; or it is encoded again
    and again, and then each group of pictures begins with a coarse one that is refined, and the same few return.
    `frozen` is told

    - when all looks of 12 s were identical and a keyframe is among them, or
    - when pictures have returned 4 times within 12 s. A picture returns when it was seen within the last 40 s and the
      look before showed another one; if that was visibly another one, the count begins anew. A return from before the
      last keyframe counts twice.

    Why a keyframe: encoders drop the noise of a still place between keyframes. Of footage with a noise of 0.3 to 2
    grey levels by x264 at CRF 35 and 42, all pictures between two keyframes were identical in most settings: 3.6 s of
    4 s, 9.6 s of 10 s, 44 s where no keyframe came. None was the same after a keyframe, and of 112 looks at most one
    was a return. Without a keyframe it takes 120 s; where nothing says which frames are keyframes, 12 s.

    It ends when something visibly moves, or 4 s after a new picture, if none has returned meanwhile or been the same
    over a keyframe.

    Not told: a frozen picture with a running clock written into it; and one that is encoded anew at a constant, low
    bit rate, whose coarseness wanders: it looks like a still place. At CRF 23 to 38 pictures of x264 returned 5 to
    32 s after the freeze. Told, because it is the same thing: a source without any noise, such as a test picture.
    """

    SAME_S, SAME_WITHOUT_KEY_S = 12.0, 120.0
    RETURNS, RETURNS_S = 4, 12.0
    MEMORY_S = 40.0
    END_S = 4.0
    #: Grey levels by which a block's mean changes where something moved; coding a still picture again changes less.
    MOVED = 8

    def __init__(self) -> None:
        # When each picture was seen last, and how many keyframes had come by then.
        self._seen: OrderedDict[int, tuple[float, int]] = OrderedDict()
        self._keys = 0
        self._returned: deque[float] = deque(maxlen=self.RETURNS)
        self._last: int | None = None
        self._same_s = 0.0
        self._keyed = False
        # When a new picture came first since one was found to be an old one.
        self._new_s: float | None = None
        self._told = False

    def interrupt(self) -> None:
        """Say that frames are missing here: nothing that came before is compared with what comes."""
        self._seen.clear()
        self._returned.clear()
        self._last = None

    def push(self, digest: int, moved: bool, key: bool | None, seconds: float) -> bool:
        """Take a look.

        Args:
            digest: Of its pixels; equal for equal pictures.
            moved: Whether it differs visibly from the look before, or shows nothing that could repeat itself.
            key: Whether there was a keyframe since the look before; None where nothing tells.
            seconds: Its time.

        Returns:
            Whether the camera counts as frozen.
        """
        while self._seen and seconds - next(iter(self._seen.values()))[0] > self.MEMORY_S:
            self._seen.popitem(last=False)
        self._keys += bool(key)
        same, known = digest == self._last and not moved, digest in self._seen and not moved
        if not same:
            self._same_s, self._keyed = seconds, False
        elif key or key is None:
            self._keyed = True
        across = known and self._seen[digest][1] != self._keys
        if moved:
            self._returned.clear()
        elif known and not same:
            self._returned.extend([seconds, seconds] if across else [seconds])
        if across or (known and (key is None or not same)):
            self._new_s = None
        elif not known and self._new_s is None:
            self._new_s = seconds
        self._told = self._goes_on(moved, seconds) if self._told else self._begins(seconds)
        self._last = digest
        self._seen[digest] = seconds, self._keys
        self._seen.move_to_end(digest)
        return self._told

    def identical_s(self, seconds: float) -> float:
        """For how long all looks have been identical; 0 where no keyframe is among them."""
        return seconds - self._same_s if self._keyed else 0.0

    def _begins(self, seconds: float) -> bool:
        often = len(self._returned) == self.RETURNS and seconds - self._returned[0] <= self.RETURNS_S
        if often or seconds - self._same_s >= (self.SAME_S if self._keyed else self.SAME_WITHOUT_KEY_S):
            self._new_s = None
            return True
        return False

    def _goes_on(self, moved: bool, seconds: float) -> bool:
        if not moved and (self._new_s is None or seconds - self._new_s < self.END_S):
            return True
        self._returned.clear()
        return False


def block_means(rows: UInt8Array) -> UInt8Array:
    """Means of the blocks of a picture's rows in green, the channel nearest to brightness.

    Args:
        rows: uint8 (n, w, 3); the rows may lie apart in memory.

    Returns:
        uint8 (H, W), at most 54 x 96.
    """
    import cv2

    height, width = rows.shape[:2]
    size = max(1, min(_BLOCKS_WIDE, width // _BLOCK)), max(1, min(_BLOCKS_HIGH, height // 4))
    return np.asarray(cv2.resize(rows, size, interpolation=cv2.INTER_AREA)[..., 1], dtype=np.uint8)


def lasting_contrast(before: UInt8Array, now: UInt8Array) -> float:
    """How far the 8th strongest block stands out from its surroundings, in both of two looks and to the same side.

    Noise stands out at random, so little of it is left. Strips at the top and the bottom do not count.

    Args:
        before: Block means, uint8 (H, W).
        now: The same of the next look.

    Returns:
        Grey levels; 0 where there are fewer blocks.
    """
    strip = round(before.shape[0] * _STRIP)
    one, other = (_standing_out(means)[strip : means.shape[0] - strip] for means in (before, now))
    lasting = np.minimum(np.abs(one), np.abs(other))[(one > 0) == (other > 0)]
    if lasting.size < _STRONGEST:
        return 0.0
    return float(np.partition(lasting, -_STRONGEST)[-_STRONGEST])


def is_uniform(rows: UInt8Array) -> bool:
    """Whether the middle of a picture has one value everywhere, to two grey levels a channel.

    Args:
        rows: uint8 (n, w, 3).
    """
    strip = round(rows.shape[0] * _STRIP)
    # Some thousand pixels are enough, and most pictures are done after the first row.
    down, across = max(1, rows.shape[0] // 64), max(1, rows.shape[1] // 128)
    middle = rows[strip : max(strip + 1, rows.shape[0] - strip) : down, ::across]
    if any(np.ptp(middle[0, :, channel]) > _UNIFORM for channel in range(3)):
        return False
    return bool((np.ptp(middle, axis=(0, 1)) <= _UNIFORM).all())


def _standing_out(means: UInt8Array) -> NDArray[np.float32]:
    """Each block against the mean of the 5 x 5 around it."""
    import cv2

    values = means.astype(np.float32)
    return np.asarray(values - cv2.blur(values, (5, 5), borderType=cv2.BORDER_REPLICATE), dtype=np.float32)
