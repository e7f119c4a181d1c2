"""Where the bundle comes from: parity, versions, commands, and what is not in the report."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.bundle.manifest import REUSE
from offline.report.content import Report, Table
from offline.report.sections.parts import Section, Titled

_REUSE = (
    "What hh-edge run --reuse-unchanged would do on the validation videos. Groups of frames that differ from the one "
    "that was encoded last by at most the threshold, in grey levels and in the block of 16 x 16 pixels where they "
    "differ most, take its tokens; the share is how many did."
)


def absent(report: Report) -> Iterator[Section]:
    """Say what is not in the report, and how to get it."""
    if report.absent:
        yield Section(
            "absent",
            "Not in this report",
            "What there was nothing to show of, and how to get it.",
            points=report.absent,
        )


def parity(report: Report) -> Iterator[Section]:
    """Show how far the exported graphs are from the model, and what reused tokens change."""
    # Counts among figures.
    found = report.manifest.parity.items()
    rows = tuple((name, int(value) if name.endswith(("segments", "groups")) else value) for name, value in found)
    measured = tuple(row for row in rows if not row[0].startswith(REUSE))
    reuse = tuple((name.removeprefix(REUSE), value) for name, value in rows if name.startswith(REUSE))
    if measured:
        yield Section(
            "parity",
            "Parity of the exported graphs",
            "Measured at build time: how far the exported graphs are from the model they came from. For a precision "
            "below float32 also what it costs: the cosine of the expert features without their mean over segments, "
            "the largest change of a score, and the change of AUC with its interval over paired draws of the videos.",
            tables=(
                Titled("Parity", Table(("measured", "value"), measured)),
                *(
                    (Titled("Frames that did not change", Table(("measured", "value"), reuse), _REUSE),)
                    if reuse
                    else ()
                ),
            ),
        )


def provenance(report: Report) -> Iterator[Section]:
    """Show what was run, and how to repeat it."""
    manifest = report.manifest
    source, geometry, segment, scorer = manifest.source_model, manifest.geometry, manifest.segment, manifest.scorer
    locators = tuple(
        (
            name, spec.sigma, spec.threshold, spec.lookahead, spec.f1 if spec.calibrated else "not calibrated"
        )
        for name, spec in (("full", manifest.locators.full), ("low_latency", manifest.locators.low_latency))
    )  # fmt: skip
    facts: tuple[tuple[str, str], ...] = (
        ("model", source.name),
        ("revision", source.revision),
        ("architecture", source.architecture),
        ("licence", source.licence),
        (
            "geometry",
            f"{geometry.layers} layers x {geometry.heads} heads of {geometry.head_dim}, width {geometry.width}",
        ),
        (
            "segment",
            f"{segment.frames} frames, {segment.sampled} of them seen, at {segment.fps:g} fps"
            + (f"; one begins every {segment.step} frames" if segment.overlap > 1 else ""),
        ),
        ("pixels", f"{manifest.pixels}, {manifest.pixels.resizing}"),
        ("precision", f"vision {manifest.graphs.vision.rounding}, language {manifest.graphs.language.rounding}"),
        ("scorer", f"fitted on {scorer.samples} samples ({scorer.unit}), {scorer.anomalous} of them anomalous"),
        ("built", manifest.created),
        *((f"version of {name}", version) for name, version in sorted(manifest.producer.items())),
    )
    yield Section(
        "provenance",
        "What was run, and how to repeat it",
        "The bundle's manifest says the same for machines.",
        tables=(
            Titled(
                "Operating points",
                Table(
                    ("locator", "sigma, segments", "threshold", "lookahead, segments", "F1 at calibration"), locators
                ),
            ),
            Titled("Model and versions", Table(("what", "value"), facts)),
        ),
        commands=report.commands,
    )
