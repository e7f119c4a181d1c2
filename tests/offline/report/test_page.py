"""The report says what was measured, leaves out what was not, and lets nobody's file name become markup."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from report_parts import THRESHOLD, H, L, a_chance, a_hunt, a_manifest, an_embedding

from edge_runtime.errors import InvalidFrame, OutputFailed
from edge_runtime.stream.locator import smooth
from edge_runtime.stream.segments import cut
from models.heads import HeadRef
from offline.data.dataset import Label, Split, Video
from offline.data.scores import VideoScores
from offline.data.spans import Span
from offline.evaluation.bootstrap import Resampling
from offline.evaluation.figures import Evaluation, evaluate_scores
from offline.evaluation.metrics import frame_auc
from offline.hunting.deployment_noise import Survival
from offline.hunting.depth import DepthPoint
from offline.hunting.sampling import SamplingPoint
from offline.report.content import AblationTable, Report, ReportVideo, Table
from offline.report.pictures import thumbnail
from offline.report.render import render, write
from offline.report.sections.parts import not_none
from offline.report.sections.videos import OPEN_VIDEOS
from offline.report.tables import evaluation_tables, pool_frames
from offline.report.tsne import place

NASTY = "<script>alert('x')</script> & \"$x_1$\" {{ 7 * 7 }}.mp4"


def a_picture(seed: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    coarse = random.integers(60, 200, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (640, 360), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def a_video(index: int, *, label: Label = "anomalous", split: Split = "validation", name: str = "") -> ReportVideo:
    random = np.random.default_rng(index)
    frames, fps = 1000 + 37 * index, 24.0
    events: tuple[Span, ...] = ((300 + 10 * index, 520), (800, 900)) if label == "anomalous" else ()
    segments = tuple(cut(frames, 48))
    scores: list[float | None] = []
    for start, end in segments:
        inside = any(a < end and start < b for a, b in events)
        scores.append(float(np.clip(random.normal(0.8 if inside else 0.25, 0.15), 0, 1)))
    scores[2] = None
    smoothed = smooth(scores, 1.0, 3)
    detected = [span for span, p in zip(segments, smoothed, strict=True) if p is not None and p > THRESHOLD]
    return ReportVideo(
        name=name or f"scenes/{label}_{index:03d}.mp4",
        label=label,
        split=split,
        fps=fps,
        frames=frames,
        events=events,
        segments=segments,
        scores=tuple(scores),
        smoothed=tuple(smoothed),
        detected=tuple(detected),
        thumbnails=tuple((f, f"{f / fps:.1f} s, score 0.87", thumbnail(a_picture(f))) for f in (340, 420, 860))
        if label == "anomalous"
        else (),
    )


def an_evaluation(videos: tuple[ReportVideo, ...]) -> Evaluation:
    def series(scores: str) -> dict[str, VideoScores]:
        return {
            v.name: VideoScores(
                v.name, v.frames, tuple((*span, p) for span, p in zip(v.segments, getattr(v, scores), strict=True))
            )
            for v in videos
        }

    return evaluate_scores(
        [Video(Path(v.name), v.name, v.label, v.split, v.events, v.frames) for v in videos],
        series("scores"),
        series("smoothed"),
        thresholds={"calibrated": THRESHOLD},
        fps=24.0,
        resampling=Resampling(draws=50),
    )


def a_full_report() -> Report:
    found = a_hunt()
    validation = tuple(a_video(i, label="anomalous" if i % 3 else "normal") for i in range(6))
    test = tuple(a_video(i, label="anomalous" if i % 2 else "normal", split="test") for i in range(10, 20))
    return Report(
        title="Gate cameras, first build",
        manifest=a_manifest(found),
        hunt=found,
        videos=validation + test,
        depth=tuple(
            DepthPoint(n, 0.93 - 0.4 * np.exp(-n / 2), 0.8 - 0.4 * np.exp(-n / 2), (n + 1) / L) for n in range(L)
        ),
        sampling=(SamplingPoint(2, None, None), SamplingPoint(4, 0.8, 0.7), SamplingPoint(16, 0.9, 0.8)),
        embedding=an_embedding(),
        evaluations={"validation": an_evaluation(validation), "test": an_evaluation(test)},
        ablation=AblationTable(
            table=Table(
                ("variant", "AUC", "AP", "best F1"),
                (
                    ("full model", 0.92, 0.85, 0.8),
                    ("all heads of the last layer", 0.84, 0.7, 0.66),
                    ("random heads", 0.7, 0.5, None),
                ),
            ),
            judged_on="Judged on 10 videos.",
            revision="0123abc",
            notes=("Differences are paired.",),
        ),
        calibration_curve=((0.01, 12, 0.71), (0.1, 40, 0.86), (1.0, 400, 0.92)),
        notes=("The reference model is untrained: these figures say nothing of the method.",),
        absent=("A thing: get it there.",),
        chance=a_chance(),
        commands=("hh-offline build --model example/vision-language --manifest data.csv --output bundle --seed 0",),
    )


@pytest.fixture(scope="module")
def full() -> Report:
    return a_full_report()


@pytest.fixture(scope="module")
def least() -> Report:
    """What every build has: a manifest and a hunt, here under one prompt."""
    found = a_hunt(prompts=1)
    return Report(title="Least", manifest=a_manifest(found, parity={}), hunt=found)


@pytest.fixture(scope="module")
def html(full: Report) -> str:
    return render(full)


def test_the_page_says_what_the_hunt_owes_to_chance_where_that_is_known(full: Report, least: Report) -> None:
    page, bare = render(full), render(least)
    for sentence in a_chance().sentences:
        assert sentence.replace("'", "&#39;") in page
    assert 'id="permuted-' in page
    assert 'id="random-heads-' in page
    for unsaid in ("Does any head know anything?", "Hunted and random heads", "permuted"):
        assert unsaid not in bare
    untold = replace(full, chance=replace(a_chance(), permuted=None, compared=None, anomalous=1))
    assert "cannot be computed with fewer than 2" in render(untold)
    assert 'id="permuted-' not in render(untold)


def test_what_the_precision_does_to_heads_is_drawn_where_the_hunt_counted_it(least: Report) -> None:
    share = np.full((L, H), 0.01)
    share[7, 3] = np.inf
    survival = Survival("fp16", share, (HeadRef(7, 3),), 12, "coarse")
    page = render(replace(least, survival=survival))
    text = text_of(page)
    assert "What fp16 does to every head" in text
    assert f"fp16 moves 1 of {L * H} heads by more than 5% of their spread (12 segments, prompt coarse)" in text
    assert "does to every head" not in text_of(render(least))


def test_what_reused_frames_change_has_a_table_of_its_own() -> None:
    found = a_hunt()
    parity = {"relative": 3.2e-7, "reuse_threshold": 2.0, "reuse_groups": 96.0, "reuse_auc_change": -0.0031}
    page = render(Report(title="Reuse", manifest=a_manifest(found, parity=parity), hunt=found))
    graphs, reuse = page.split("Frames that did not change")
    assert "relative" in graphs
    assert "threshold" in reuse
    assert ">96<" in reuse
    assert "reuse_" not in page
    assert "Frames that did not change" not in render(
        Report(title="Without", manifest=a_manifest(found, parity={"relative": 3.2e-7}), hunt=found)
    )


class Outline(HTMLParser):
    """Elements, identifiers and addresses of a page; fails where an element is closed that is not open."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            assert not key.startswith("on"), key
            if key == "id":
                self.ids.append(value or "")
            elif key in ("href", "src", "xlink:href"):
                (self.references if (value or "").startswith("#") else self.addresses).append(value or "")
            self.references += [f"#{name}" for name in re.findall(r"url\(#([^)]*)\)", value or "")]


def text_of(page: str) -> str:
    """What one reads, element by element, blanks made single."""
    return " ".join(" ".join(Outline(page).text).split())


# ---- the page


def test_the_page_is_well_formed_and_needs_no_network(html: str) -> None:
    outline = Outline(html)
    assert len(set(outline.ids)) == len(outline.ids)
    assert {reference[1:] for reference in outline.references} <= set(outline.ids)
    assert outline.addresses
    assert all(address.startswith("data:image/") for address in outline.addresses)
    assert not {"script", "link", "iframe", "object", "form"} & set(outline.tags)
    # Only what the report was given holds an address; here, nothing does.
    assert "//" not in re.sub(r"data:image/[a-z]+;base64,[\w+/=\s]*", "", html)
    assert "@import" not in html


def test_the_same_report_gives_the_same_bytes(full: Report, html: str) -> None:
    assert render(full) == html


def test_figures_follow_the_colours_of_the_page(html: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--accent)" in drawn
    declared = set(re.findall(r"(--[a-z]+):", html))
    assert set(re.findall(r"var\((--[a-z]+)\)", html)) <= declared
    # No ink without a variable is left, apart from the key of the heat map, which is a picture.
    assert set(re.findall(r"#[0-9a-f]{6}", drawn)) == set()


def test_headline_figures_are_those_of_the_test_split_else_of_the_manifest(full: Report, html: str) -> None:
    text = text_of(html)
    test = full.evaluations["test"]
    assert isinstance(test, Evaluation)
    assert f"Frame AUC {test.series['smoothed'].auc:.3f} Test" in text
    assert f">{test.videos} / {not_none(test.frames)}</dd>" in html
    without = render(replace(full, evaluations={}))
    assert "Frame AUC 0.912 Validation" in text_of(without)
    assert "12 / 14\u202f400" in without
    # Three segments of 48 frames at 24 fps.
    assert "Decision delay 6.0 s" in text
    assert "8 of 12 Decoder layers that run" in text


def test_every_expert_has_its_row_and_its_rss(full: Report, html: str) -> None:
    text = text_of(html)
    for rank, expert in enumerate(full.hunt.experts, start=1):
        assert f"{rank} {expert.layer} {expert.head} {expert.rss:.3f}" in re.sub(r"\s+", " ", text)


def test_many_videos_fold_but_none_is_lost(full: Report, html: str) -> None:
    for video in full.videos:
        assert html.count(f"<bdi>{video.name}</bdi>") == 1
    # Ten test videos, five of them normal: six anomalous at most are open, and as many normal ones as find room.
    assert html.count("<details>") == 1
    assert f"{10 - OPEN_VIDEOS} more normal videos</summary>" in html
    jpeg = base64.b64encode(full.videos[1].thumbnails[0][2]).decode()
    assert f"data:image/jpeg;base64,{jpeg}" in html


def test_the_evaluation_is_the_same_as_an_object_and_from_json(full: Report, html: str) -> None:
    test = full.evaluations["test"]
    assert isinstance(test, Evaluation)
    as_json = msgspec.json.decode(msgspec.json.encode(test.to_dict()))
    assert evaluation_tables(as_json) == evaluation_tables(test)
    auc = test.series["smoothed"].auc
    assert auc is not None
    assert f"{auc:.3f}" in text_of(html)


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)">', page)


def test_what_was_not_measured_is_not_there(html: str, least: Report) -> None:
    everything = (
        "curves videos experts separation evaluation ablation depth frames calibration parity provenance absent"
    )
    assert sections(html) == everything.split()
    page = render(least)
    assert sections(page) == ["experts", "provenance"]
    assert re.findall(r'<a href="#(\w+)">', page) == ["experts", "provenance"]
    assert "there is one prompt" in page
    Outline(page)


def test_undefined_figures_say_why(least: Report) -> None:
    one_class = {"auc": None, "ap": None, "f1": None, "videos": 3, "frames": 300}
    undefined = replace(
        least,
        manifest=a_manifest(least.hunt, validation=one_class),
        videos=(a_video(1, label="normal"),),
        embedding=an_embedding(7),
        depth=(DepthPoint(0, None, None, 0.5), DepthPoint(1, None, None, 1.0)),
    )
    page = render(undefined)
    text = text_of(page)
    assert text.count("not defined On the validation split, all scored frames are of one class") == 3
    assert "precision-recall of the validation split are not defined" in text
    assert 'aria-label="ROC' not in page
    assert "7 samples are too few" in text
    assert "Where AUC and F1 are not defined" in text
    nothing = one_class | {"videos": 0, "frames": 0}
    text = text_of(render(replace(least, manifest=a_manifest(least.hunt, validation=nothing))))
    assert text.count("not defined There is no validation split with known event times") == 3


# ---- names are written by strangers


def hostile(least: Report, text: str) -> Report:
    video = a_video(1)
    shots = tuple((frame, text, jpeg) for frame, _, jpeg in video.thumbnails)
    return replace(
        least,
        title=text,
        videos=(replace(video, name=text, thumbnails=shots),),
        ablation=AblationTable(
            Table(("a", text), ((text, 1.0),)), judged_on=text, revision=text, notes=(f"{text}.",)
        ),
        absent=(text,),
        notes=(text,),
        commands=(text,),
    )


def test_markup_in_names_stays_text(least: Report) -> None:
    page = render(hostile(least, NASTY))
    outline = Outline(page)
    assert "script" not in outline.tags
    assert "<script" not in page
    assert "".join(outline.text).count(NASTY) >= 8
    assert "49" not in page[page.index("<h1>") : page.index("</h1>")]


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=30), min_size=60, max_size=60, unique=True))
def test_any_names_leave_the_page_as_it_is(least: Report, texts: list[str]) -> None:
    # The same elements in the same order, whatever the names are. Many names in few pages: drawing takes time.
    def named(names: list[str]) -> list[str]:
        report = hostile(least, names[0])
        report = replace(report, notes=tuple(names), commands=tuple(names))
        return Outline(render(report)).tags

    assert named(texts) == named([str(i) for i in range(len(texts))])


def test_a_name_that_is_no_utf8_can_be_written(least: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(hostile(least, os.fsdecode(b"caf\xe9.mp4")), path)
    assert "caf\\udce9.mp4" in path.read_text(encoding="utf-8")


# ---- the file


def test_writing_replaces_whole_and_leaves_nothing_behind(least: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    write(least, path)
    assert path.read_text(encoding="utf-8") == render(least)
    assert os.listdir(tmp_path) == ["report.html"]
    with pytest.raises(OutputFailed, match="nowhere"):
        write(least, tmp_path / "nowhere" / "report.html")


def test_a_failed_write_keeps_what_was_there(least: Report, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.mkdir()
    with pytest.raises(OutputFailed, match=r"report\.html"):
        write(least, target)
    assert os.listdir(tmp_path) == ["report.html"]


# ---- parts


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(360, 640, (90, 160)), (50, 100, (50, 100)), (4000, 20, (320, 2)), (1, 3000, (1, 160))],
)
def test_a_thumbnail_is_a_small_jpeg_of_the_same_picture(height: int, width: int, expected: tuple[int, int]) -> None:
    frame = np.full((height, width, 3), (200, 60, 20), dtype=np.uint8)
    picture = cv2.imdecode(np.frombuffer(thumbnail(frame), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[:2] == expected
    np.testing.assert_allclose(picture.reshape(-1, 3).mean(axis=0), (200, 60, 20), atol=6)


def test_a_thumbnail_of_no_picture_is_refused() -> None:
    with pytest.raises(InvalidFrame):
        thumbnail(np.zeros((4, 4), dtype=np.uint8))


def test_pooled_curves_are_the_frames_of_all_timed_videos() -> None:
    videos = [a_video(0), a_video(3, label="normal"), replace(a_video(4), events=())]
    pooled = pool_frames(videos)
    assert pooled is not None
    assert pooled.videos == 2  # the third has unknown timing
    labels, scores = [], []
    for video in videos[:2]:
        for (start, end), score in zip(video.segments, video.smoothed, strict=True):
            for frame in range(start, end) if score is not None else ():
                labels.append(any(a <= frame < b for a, b in video.events))
                scores.append(score)
    assert pooled.frames == len(labels)
    assert pooled.auc_smoothed == frame_auc(np.array(labels), np.array(scores))
    assert pool_frames([a_video(3, label="normal")]) is None
    assert pool_frames([]) is None


@pytest.mark.parametrize("n", [8, 9, 60])
def test_tsne_keeps_two_far_groups_apart(n: int) -> None:
    labels = np.arange(n) % 2 == 0
    x = np.random.default_rng(0).standard_normal((n, 20))
    x[labels] += 40.0
    x[:, 7] = 3.0  # constant
    x[:, 8] *= 1e6  # one feature far larger than all others
    placed = place(x)
    assert placed.shape == (n, 2)
    np.testing.assert_array_equal(placed, place(x))
    distance = np.linalg.norm(placed[:, None] - placed[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(axis=1)] == labels).all()


def test_tsne_of_samples_that_are_all_alike_is_one_point() -> None:
    np.testing.assert_array_equal(place(np.full((9, 4), 0.1)), np.zeros((9, 2)))
    assert np.isfinite(place(np.arange(9.0)[:, None])).all()


def test_cells_are_written_as_they_are_read() -> None:
    cells: list[tuple[Any, str]] = [
        (None, "not defined"), (0.0, "0.000"), (0.91251, "0.913"), (3.2e-7, "3.2e-07"), (12345, "12\u202f345"),
        (12345.6, "12\u202f346"), ("", ""), ("x", "x"),
    ]  # fmt: skip
    for value, text in cells:
        assert not_none(value) == text
    with pytest.raises(ValueError, match="nan"):
        not_none(float("nan"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 0.0}, "is no video"),
        ({"frames": 0}, "is no video"),
        ({"label": "odd"}, "unknown label"),
        ({"split": "train"}, "unknown label"),
        ({"scores": ()}, "0 scores"),
        ({"events": ((5, 5),)}, "range 5-5"),
        ({"events": ((50, 60), (10, 20))}, "range 10-20"),
        ({"detected": ((0, 10**6),)}, "beyond"),
        ({"label": "normal"}, "normal video with 2 events"),
        ({"thumbnails": ((0, "", b"GIF89a"),)}, "no JPEG"),
        ({"thumbnails": ((10**6, "", b"\xff\xd8"),)}, "thumbnail of frame"),
        ({"thumbnails": ((0, "", b"\xff\xd8" + bytes(10**5)),)}, "no JPEG of at most"),
    ],
)
def test_a_video_that_contradicts_itself_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    video = a_video(0)
    with pytest.raises(ValueError, match=message) as caught:
        replace(video, **changes)
    assert str(caught.value).startswith(video.name)


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan")])
def test_a_score_that_is_no_probability_is_refused(score: float) -> None:
    video = a_video(0)
    with pytest.raises(ValueError, match="no probability"):
        replace(video, smoothed=(score, *video.smoothed[1:]))


def test_a_report_whose_parts_disagree_is_refused(full: Report) -> None:
    with pytest.raises(ValueError, match="experts"):
        replace(full, hunt=a_hunt().up_to(4))
    with pytest.raises(ValueError, match="twice"):
        replace(full, videos=(full.videos[0], full.videos[0]))
    with pytest.raises(ValueError, match="no 2 of"):
        replace(full, calibration_curve=((2, 10, 0.5),))
    with pytest.raises(ValueError, match="under 2 columns"):
        Table(("a", "b"), (("x",),))
    with pytest.raises(ValueError, match="expert features have shape"):
        replace(an_embedding(), videos=("one",))
    with pytest.raises(ValueError, match="labels are"):
        replace(an_embedding(), labels=np.zeros(40))
    blind = an_embedding()
    with pytest.raises(ValueError, match="not all finite"):
        replace(blind, last_layer=np.full_like(blind.last_layer, np.nan))
