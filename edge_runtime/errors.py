"""Every error this project raises on purpose, as one tree, with the exit code that each one means.

A message names the thing, the value and the way out.
"""

from __future__ import annotations


class HeadHuntError(Exception):
    """Base of all deliberate errors. The command lines print its text as one line and exit with `exit_code`."""

    exit_code = 1


class UsageError(HeadHuntError):
    """An argument or a combination of arguments that cannot be carried out."""

    exit_code = 2


class Conflict(UsageError):
    """What is asked does not go with how things are now; after another step it may."""


class MissingExtra(UsageError):
    """An optional dependency is not installed; the message holds the pip command."""


class BundleRefused(HeadHuntError):
    """The bundle is not what its manifest says, or not one this version can read."""

    exit_code = 3


class SourceUnavailable(HeadHuntError):
    """A file or camera could not be opened."""

    exit_code = 4


class SourceUnreachable(SourceUnavailable):
    """Where a file lies cannot be reached or lets nobody in. That says nothing of the file: it is never left out."""


class CameraUnavailable(SourceUnavailable):
    """A live camera gives no pictures.

    Attributes:
        reason: Why, in the word of a CameraRecord.
        detail: Why, in one sentence that says what to do.
    """

    def __init__(self, message: str, reason: str, detail: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.detail = detail


class VideoUnreadable(SourceUnavailable):
    """A video file opened, but holds no video, no frames, or fewer frames than it promises."""


class InvalidFrame(HeadHuntError, ValueError):
    """A pushed frame or its timestamp is not what `push` takes. The stream is unchanged by it."""


class ProviderUnavailable(HeadHuntError):
    """The execution provider that was asked for is not the one that ONNX Runtime would use."""


class InferenceFailed(HeadHuntError):
    """A graph failed, or gave values that are not finite. The segment becomes a gap, never a score."""


class EngineUnreachable(InferenceFailed):
    """Nothing that runs the graphs answers: trying each segment of a batch by itself would only wait longer."""


class OutOfMemory(InferenceFailed):
    """There was no memory for a graph. With less beside it, the same call may succeed."""


class FootageIncomplete(HeadHuntError):
    """Part of a file could not be scored. What could be is written, and gap records stand for the rest."""


class OutputFailed(HeadHuntError):
    """Records could not be written: a full disk, a closed pipe, a folder without permission."""


class CacheFailed(OutputFailed):
    """A folder of this machine for what passes through it cannot be written or read; another machine's may."""


class NotDelivered(OutputFailed):
    """An output cannot take a record now and may take it later, as a broker that is down. It counts as not taken.

    Args:
        message: What is wrong.
        after_s: Seconds that the other side asked to be left alone for, where it did.
    """

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class DatasetError(HeadHuntError):
    """A manifest of videos, an annotation file or a scores file that contradicts itself or the videos."""


class CheckpointError(HeadHuntError):
    """A model folder that cannot be used: unsupported family, missing tokenizer, weights that are not finite."""


class FeatureError(HeadHuntError):
    """Head features that cannot be hunted: not finite, of another geometry, or of one class only."""


class ParityError(HeadHuntError):
    """An exported graph does not reproduce the model it came from; the message holds the measured difference."""


class ClusterUnavailable(HeadHuntError):
    """A cluster of machines that cannot be reached, has no room, or has gone. What was done is kept."""


class VideosFailed(HeadHuntError):
    """Some videos of many failed, named in the message. What the others gave is kept.

    Args:
        message: Which, and why.
        unreadable: Whether one of them could not be opened or decoded; the exit code is then that of a source.
    """

    def __init__(self, message: str, unreadable: bool = False) -> None:
        super().__init__(message)
        if unreadable:
            self.exit_code = SourceUnavailable.exit_code


class EndpointFailed(HeadHuntError):
    """A server that was asked for a description cannot be reached, refuses, or answers with something else."""


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; its type where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """What an error says first; its type where it says nothing, as a MemoryError does."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
