"""The expert heads: which they are, and how they stand out among all heads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from offline.arrays import Float64Array
from offline.hunting.chance import Chance
from offline.hunting.deployment_noise import Survival
from offline.hunting.hunt import Hunt
from offline.hunting.saliency import normalise
from offline.report import charts
from offline.report.content import Report, Table
from offline.report.sections.parts import Drawn, Section, Titled

_METRICS = {"lda": "LDA", "kl": "KL", "mmd": "MMD", "nmi": "NMI"}


def experts(report: Report) -> Iterator[Section]:
    """Show which heads were found, and how they stand out."""
    hunt = report.hunt
    if hunt is None:
        yield _kept_experts(report)
        return
    remarks = [] if len(hunt.prompts) > 1 else ["Stability over prompts is not shown: there is one prompt."]
    survival = report.survival
    if survival is not None:
        remarks += survival.sentences(hunt.experts)
    yield Section(
        "experts",
        "The expert heads",
        f"RSS is the mean saliency over the prompts minus {hunt.penalty:g} standard deviations. The bundle asks with "
        f"the prompt “{report.manifest.prompt.name}”: {report.manifest.prompt.text}",
        (*_maps(hunt), *_against_chance(report.chance), *(() if survival is None else (_noise_map(survival, hunt),))),
        (Titled("Experts by rank", _by_rank(hunt)),),
        tuple(remarks),
        points=() if report.chance is None else report.chance.sentences,
    )


def _by_rank(hunt: Hunt) -> Table:
    metrics = _mean_metrics(hunt)
    mean, spread = hunt.score.mean(axis=0), hunt.score.std(axis=0)
    rows = tuple(
        (
            rank, e.layer, e.head, e.rss, float(mean[e.layer, e.head]), float(spread[e.layer, e.head]),
            *(float(metric[e.layer, e.head]) for metric in metrics.values()),
        )
        for rank, e in enumerate(hunt.experts, start=1)
    )  # fmt: skip
    columns = ("rank", "layer", "head", "RSS", "mean", "deviation", *(_METRICS[name] for name in metrics))
    return Table(columns, rows)


def _mean_metrics(hunt: Hunt) -> dict[str, Float64Array]:
    """Each metric, scaled over all heads of a prompt, as its mean over the prompts: (L, H)."""
    return {name: normalise(metric).mean(axis=0) for name, metric in hunt.saliency.items()}


def _maps(hunt: Hunt) -> Iterator[Drawn]:
    yield Drawn(
        "Robust saliency of every head",
        charts.head_map("rss", "Heat map of the robust saliency score", hunt.rss, hunt.experts),
        "One cell per head, layer 0 at the bottom: the deeper the colour, the better and the more steadily the head "
        "separates the classes. The numbered squares are the experts, by rank. A few deep cells on a pale ground "
        "are what the method hopes for.",
    )
    yield Drawn(
        "The four metrics",
        charts.metric_maps(
            "metrics",
            "Four heat maps, one for each saliency metric",
            [(_METRICS[name], metric) for name, metric in _mean_metrics(hunt).items()],
            hunt.experts,
        ),
        "Each metric scaled to 0…1 over all heads of a prompt, then averaged over the prompts; the dots are the "
        "experts. Good experts are deep in all four, so that no single metric decides.",
    )
    if len(hunt.prompts) > 1:
        yield Drawn(
            f"Stability over {len(hunt.prompts)} prompts",
            charts.stability(
                "stability", "Mean saliency against its deviation", hunt.score, hunt.penalty, hunt.experts
            ),
            "Each dot is a head: to the right it separates better, further down it depends less on how the question "
            f"is worded. Everything right of the dashed line (mean minus {hunt.penalty:g} deviations) is an expert; "
            "good experts lie far to the right and low.",
        )


def _against_chance(chance: Chance | None) -> Iterator[Drawn]:
    if chance is None:
        return
    if chance.permuted is not None:
        yield Drawn(
            "Does any head know anything?",
            charts.permuted_figure(
                "permuted", "Histogram of the best head's AUC under permuted labels", chance.permuted
            ),
            f"The line is the best head's AUC on videos that it was not fitted on. The bars count "
            f"{len(chance.permuted.permuted)} labellings that were permuted between videos, each with its own best "
            "head: what the best of so many heads reaches by luck. Good is a line far to the right of all bars.",
        )
    if chance.compared is not None:
        yield Drawn(
            "Hunted and random heads",
            charts.random_figure("random-heads", "AUC of random heads and of the hunted ones", chance.compared),
            f"Each dot is a random choice of {chance.top_k} heads, the line the hunted ones, all on calibration "
            "videos that neither hunt nor scorer had seen. Good is a line to the right of the dots.",
        )


def _noise_map(survival: Survival, hunt: Hunt) -> Drawn:
    precision = survival.precision
    return Drawn(
        f"What {precision} does to every head",
        charts.head_map(
            "noise",
            f"Heat map of the noise of {precision} as a share of each head's spread",
            # Beyond its own spread a head is lost, however far.
            np.minimum(survival.share, 1.0),
            hunt.experts,
        ),
        f"The noise that {precision} adds, as a share of how far the head moves between segments, on "
        f"{survival.segments} of them: 0 is untouched, 1 is all noise. The hunt counted it into the scatter within "
        "the classes. Good experts lie on pale ground.",
    )


def _kept_experts(report: Report) -> Section:
    """The experts of a recalibrated bundle: the maps they were chosen from stayed with the first bundle."""
    rows = tuple((rank, e.layer, e.head, e.rss) for rank, e in enumerate(report.manifest.experts, start=1))
    return Section(
        "experts",
        "The expert heads",
        f"As hunted when the bundle was first built. The bundle asks with the prompt "
        f"“{report.manifest.prompt.name}”: {report.manifest.prompt.text}",
        tables=(Titled("Experts by rank", Table(("rank", "layer", "head", "RSS"), rows)),),
    )
