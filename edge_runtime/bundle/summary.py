"""What a bundle is, as text for a person and as plain values for a program."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_runtime.bundle.licences import commercial_use
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from edge_runtime.bundle.reader import Bundle, read_regular
from edge_runtime.bundle.signature import SIGNATURES_LIMIT, claimed
from edge_runtime.errors import BundleRefused
from edge_runtime.files import printable
from edge_runtime.stream.locator import LOCATORS, LocatorSpec
from edge_runtime.stream.segments import SegmentSpec


def latency_s(locator: LocatorSpec, segment: SegmentSpec) -> float:
    """From the end of what a record is about to the record, at the bundle's own rate, without the time of scoring."""
    return locator.lookahead * segment.step_s + segment.duration_s - segment.step_s


def disk_bytes(bundle: Bundle) -> int:
    """Size of the whole folder, the manifest included."""
    return sum(entry.bytes for entry in bundle.manifest.files) + (bundle.path / MANIFEST).stat().st_size


def signers(bundle: Bundle) -> list[dict[str, Any]]:
    """Who signed it: trusted keys with their comments, then ids that the signature itself names, unchecked."""
    checked = [{"key": key.id, "checked": True, "comment": key.comment} for key in bundle.signed_by]
    known = {key.id for key in bundle.signed_by}
    try:
        named = claimed(read_regular(bundle.path / SIGNATURE, SIGNATURES_LIMIT), SIGNATURE)
    except BundleRefused:
        named = []
    return [*checked, *({"key": key, "checked": False, "comment": ""} for key in named if key not in known)]


def describe(manifest: Manifest) -> dict[str, Any]:
    """A manifest as plain values, every key present."""
    document: dict[str, Any] = msgspec.to_builtins(manifest)
    return document


def as_dict(bundle: Bundle) -> dict[str, Any]:
    """The manifest as plain values, with the size on disk, both locators' latency, and who signed it."""
    manifest = bundle.manifest
    latency = {name: latency_s(manifest.locators.named(name), manifest.segment) for name in LOCATORS}
    return describe(manifest) | {
        "bytes_on_disk": disk_bytes(bundle),
        "latency_s": latency,
        "signers": signers(bundle),
    }


def as_text(bundle: Bundle) -> str:
    """The same for a person: one fact a line, and nothing in it that a terminal would act on."""
    manifest = bundle.manifest
    segment, pixels, graphs, scorer = manifest.segment, manifest.pixels, manifest.graphs, manifest.scorer
    model, validation = manifest.source_model, manifest.validation
    experts = ", ".join(f"({expert.layer}, {expert.head}) RSS {expert.rss:.3f}" for expert in manifest.experts)
    rows = [
        ("bundle", f"{bundle.path}, {disk_bytes(bundle) / 2**20:.1f} MiB on disk"),
        ("id", manifest.bundle_id),
        *(("signed by", _signer(one)) for one in signers(bundle)),
        ("created", manifest.created),
        ("producer", ", ".join(f"{name} {version}" for name, version in manifest.producer.items())),
        ("model", f"{model.name}, {model.architecture}, revision {model.revision}"),
        ("licence", _licence(model.licence)),
        ("prompt", f"{manifest.prompt.name}: {' '.join(manifest.prompt.text.split())}"),
        ("experts", f"(layer, head) {experts}"),
        (
            "segment",
            f"{segment.frames} frames, {segment.sampled} of them seen, {segment.fps:g} frames/s: "
            f"{segment.duration_s:.2f} s{_overlapping(segment)}",
        ),
        ("pixels", f"{pixels} {pixels.color}, {pixels.resizing}"),
        ("precision", f"vision {graphs.vision.rounding}, language {graphs.language.rounding}"),
        (
            "scorer",
            f"fitted on {scorer.samples} samples ({scorer.anomalous} anomalous, unit {scorer.unit}), "
            f"{manifest.feature_size} features",
        ),
        *((name, _locator(manifest.locators.named(name), segment)) for name in LOCATORS),
        (
            "validation",
            f"AUC {_figure(validation.auc)}, AP {_figure(validation.ap)}, F1 {_figure(validation.f1)} "
            f"({validation.videos} videos, {validation.frames} frames)",
        ),
        ("parity", ", ".join(f"{name} {value:g}" for name, value in manifest.parity.items()) or "not measured"),
        *(("file", f"{entry.path}, {entry.bytes:,} bytes") for entry in manifest.files),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {printable(text)}" for name, text in rows)


def _locator(locator: LocatorSpec, segment: SegmentSpec) -> str:
    quality = f"calibrated, F1 {_figure(locator.f1)}" if locator.calibrated else "not calibrated"
    return (
        f"sigma {locator.sigma:g}, threshold {locator.threshold:g}, {quality}; "
        f"answers {latency_s(locator, segment):.2f} s after a {'stride' if segment.overlap > 1 else 'segment'} ends"
    )


def _signer(one: dict[str, Any]) -> str:
    if one["checked"]:
        return f"{one['key']} {one['comment']}".rstrip() + ", trusted"
    return f"{one['key']}, as the signature says; not checked: its key was not given as --trusted-key"


def _overlapping(segment: SegmentSpec) -> str:
    return f"; one begins every {segment.step} frames, {segment.step_s:.2f} s" if segment.overlap > 1 else ""


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _licence(name: str) -> str:
    """A licence, with what it says of commercial use where that is not plain permission."""
    remark = commercial_use(name)
    return f"{name} ({remark})" if remark else name
