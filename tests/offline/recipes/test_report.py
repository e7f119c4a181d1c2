"""`hh-offline report`: a finished bundle, shown with what its build kept, and one line of error for what is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_parts import a_chance, a_hunt, a_manifest, an_embedding

from edge_runtime.bundle.reader import Bundle
from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import DatasetError
from edge_runtime.stream.locator import LocatorSpec
from models.heads import HeadRef
from offline.ablation.file import ablation_table, read_ablation
from offline.ablation.result import Ablation, Candidate, Figure, Row
from offline.cli import cli
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Video
from offline.data.scores import VideoScores
from offline.evaluation.verdict import TOKENS_ALONE
from offline.hunting.deployment_noise import Survival
from offline.hunting.depth import DepthPoint
from offline.hunting.evidence import Evidence, read_evidence, write_evidence
from offline.hunting.hunt import Hunt, Selection, select
from offline.hunting.saliency import Saliency
from offline.hunting.sampling import SamplingPoint
from offline.report.videos import PICTURES, Scored, report_videos


def an_ablation() -> Ablation:
    full = Row(
        name="full method",
        group="paper",
        how="five heads",
        auc=Figure(0.823, 0.762, 0.879),
        ap=Figure(0.52),
        f1=Figure(None),
        unseen=Figure(0.7, spread=0.05),
        raw_auc=0.81,
        classes={"fire": 0.9, "fall": None},
        sigma=1.0,
        threshold=0.4,
        heads=(HeadRef(2, 1), HeadRef(2, 0)),
        candidates=(Candidate("one", 0.8, 0.7), Candidate("two", None)),
    )
    missing = Row(name="own words", group="further", how="asked", reason="it cannot be asked")
    run = {
        "model": {"name": "reference", "revision": "sha256:1", "architecture": "internvl", "licence": "unknown"},
        "manifest": "data.csv",
        "split": "test",
        "judged": {"videos": 60, "anomalous": 30, "untimed": []},
    }
    return Ablation(run=run, unseen=("fall",), rows=(full, missing), notes=("Read this.",))


def written(content: Any, folder: Path) -> Path:
    path = folder / "ablation.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# ---- the ablation's file


def test_an_ablation_comes_back_as_it_was_written(tmp_path: Path) -> None:
    ablation = an_ablation()
    path = written(ablation.to_dict(), tmp_path)
    assert read_ablation(path) == ablation
    shown = ablation_table(path)
    assert shown.table.columns == ablation.table().columns
    assert shown.judged_on == "Judged on 60 videos: the test split of data.csv, with reference."
    full, missing = shown.table.rows
    assert full[:2] == ("full method", "0.823\n[0.762, 0.879]")
    # What was not computed is empty, and the last column says why.
    assert set(missing[1:-1]) == {""}
    assert missing[-1] == "Not computed: it cannot be asked."


def changed(path: str, value: Any) -> dict[str, Any]:
    """The ablation's document with one key set, or removed where the value is `...`."""
    document: Any = json.loads(json.dumps(an_ablation().to_dict()))
    *way, last = path.split("/")
    inner = document
    for key in way:
        inner = inner[int(key) if key.isdigit() else key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return dict(document)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"videos": 3}, "rows"),
        (changed("rows", []), "rows"),
        (changed("rows", "none"), "rows"),
        (changed("notes", ...), "notes"),
        (changed("split", ...), "split"),
        (changed("judged/videos", "many"), "judged.videos"),
        (changed("model/revision", ...), "model.revision"),
        (changed("rows/0/name", ...), "rows[0]"),
        (changed("rows/0/auc/value", "high"), "rows[0].auc.value"),
        (changed("rows/0/group", "peers"), "rows[0].group"),
        (changed("rows/0/heads/1/layer", -1), "rows[0].heads[1]"),
        (changed("rows/0/ap", None), "rows[0]"),
        (changed("rows/1/name", "full method"), "rows"),
    ],
)
def test_a_foreign_ablation_names_the_file_and_the_key(content: Any, key: str, tmp_path: Path) -> None:
    path = written(content, tmp_path)
    with pytest.raises(DatasetError) as caught:
        ablation_table(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: key '{key}'")
    assert "\n" not in message
    assert "hh-offline ablate --json" in message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rows": NaN}', "[" * 100_000, "\x00"])
def test_what_is_no_ablation_at_all_is_refused_in_a_line(text: str, tmp_path: Path) -> None:
    path = written(text, tmp_path)
    with pytest.raises(DatasetError, match=r"ablation\.json: ") as caught:
        read_ablation(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match="No such file"):
        read_ablation(tmp_path / "nowhere.json")


# ---- what a build keeps


def is_empty(evidence: Evidence) -> bool:
    found = (evidence.hunt, evidence.embedding, evidence.depth, evidence.learned, evidence.sampling)
    return found == (None, None, (), None, ())


def test_evidence_is_found_again_by_the_manifest_alone(tmp_path: Path) -> None:
    found, embedding = a_hunt(), an_embedding()
    manifest, store = a_manifest(found), EntryStore(tmp_path)
    depth = (DepthPoint(0, None, None, 0.1), DepthPoint(1, 0.9, 0.8, 0.2))
    learned = [(0.5, 10, None), (1.0, 20, 0.75)]
    assert is_empty(read_evidence(store, manifest))
    sampling = (SamplingPoint(2, None, None), SamplingPoint(4, 0.75, 0.5))
    share = np.linspace(0, 2, found.layers * found.heads).reshape(found.layers, found.heads)
    share[0, 0] = np.inf
    survival = Survival("int8", share, (HeadRef(0, 1), HeadRef(1, 0)), 12, "plain")
    write_evidence(store, manifest, Evidence(found, embedding, depth, learned, sampling, survival=survival))
    again = read_evidence(store, manifest)
    assert again.survival is not None
    np.testing.assert_array_equal(again.survival.share, share)
    said = (again.survival.precision, again.survival.without, again.survival.segments, again.survival.prompt)
    assert said == ("int8", survival.without, 12, "plain")
    assert again.hunt is not None
    assert again.embedding is not None
    assert again.hunt.experts == found.experts
    assert (again.hunt.prompts, again.hunt.prompt, again.hunt.penalty) == (found.prompts, found.prompt, found.penalty)
    np.testing.assert_array_equal(again.hunt.rss, found.rss)
    np.testing.assert_array_equal(again.embedding.expert, embedding.expert)
    assert again.embedding.videos == embedding.videos
    assert (again.depth, again.learned, again.sampling) == (depth, learned, sampling)
    # As entries of earlier versions have it.
    assert again.chance is None
    write_evidence(store, manifest, Evidence(found, embedding, chance=a_chance()))
    assert read_evidence(store, manifest).chance == a_chance()


def test_a_recalibrated_bundle_has_the_hunt_but_not_the_curves(tmp_path: Path) -> None:
    found = a_hunt()
    manifest, store = a_manifest(found), EntryStore(tmp_path)
    write_evidence(store, manifest, Evidence(found, an_embedding(), (DepthPoint(0, 0.9, 0.8, 0.2),)))
    files = [
        {"path": f"{n}.onnx", "sha256": h * 64, "bytes": 1}
        for n, h in zip(("vision", "language", "scorer"), "001", strict=True)
    ]
    again = read_evidence(store, a_manifest(found, files=files))
    assert again.hunt is not None
    assert again.survival is None
    assert again.depth == ()
    other = a_manifest(found, experts=[{"layer": e.layer, "head": e.head, "rss": e.rss / 2} for e in found.experts])
    assert is_empty(read_evidence(store, other))


def test_evidence_that_does_not_fit_is_none(tmp_path: Path) -> None:
    found = a_hunt()
    manifest, store = a_manifest(found), EntryStore(tmp_path)
    write_evidence(store, manifest, Evidence(found, an_embedding()))
    (entry,) = tmp_path.glob("*.npz")
    content = store.get(entry.stem)
    assert content is not None
    # Other metrics under this name, as a damaged or foreign cache might have: other experts would come of them.
    upside_down = {name: part[:, ::-1] if name.startswith("saliency") else part for name, part in content.items()}
    store.put(entry.stem, upside_down)
    assert is_empty(read_evidence(store, manifest))
    store.put(entry.stem, {"something": np.zeros(3)})
    assert is_empty(read_evidence(store, manifest))


# ---- pictures


def test_pictures_are_taken_at_the_peaks(clip_path: Path) -> None:
    video = Video(clip_path, "clip.mp4", "anomalous", "test", ((50, 100),), 130)
    spans = [(start, min(start + 10, 130)) for start in range(0, 130, 10)]
    scores = [0.1, 0.9, 0.1, 0.1, 0.6, 0.7, 0.1, 0.1, 0.8, 0.1, 0.1, 0.95, 0.1]
    raw = VideoScores("clip.mp4", 130, tuple((a, b, p) for (a, b), p in zip(spans, scores, strict=True)))
    one = Scored.of(video, 15.0, raw, LocatorSpec(sigma=0.0, threshold=0.5, lookahead=0, calibrated=True, f1=0.5))
    assert one.detected == ((10, 20), (40, 60), (80, 90), (110, 120))
    (shown,) = report_videos([one], Console(quiet=True))
    # The highest score of all, and the two best of the other three events, in the order of time.
    assert [frame for frame, _, _ in shown.thumbnails] == [15, 85, 115]
    assert len(shown.thumbnails) == PICTURES
    assert shown.thumbnails[2][1] == "7.7 s, score 0.95"
    (gone,) = report_videos([replace(one, video=replace(video, path=Path("gone.mp4")))], Console(quiet=True))
    assert gone.thumbnails == ()
    assert replace(gone, thumbnails=shown.thumbnails) == shown


# ---- the command


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run_command(cli, ["report", *(str(argument) for argument in arguments)])
    out, err = capfd.readouterr()
    return code, out, err


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)">', page)


def test_a_bundle_alone_gives_a_report_that_says_what_it_lacks(
    bundle_dir: Path, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, ablation = tmp_path / "report.html", written(an_ablation().to_dict(), tmp_path)
    common = ("--bundle", bundle_dir, "--manifest", dataset_csv, "--provider", "cpu", "--output", output, "--quiet")
    code, out, err = run(capfd, *common, "--ablation", ablation)
    assert (code, err) == (0, "")
    assert out.startswith(f"report {output}\nnot in it: Heat maps")
    page = output.read_text(encoding="utf-8")
    assert sections(page) == [
        "curves",
        "videos",
        "experts",
        "evaluation",
        "ablation",
        "parity",
        "provenance",
        "absent",
    ]
    for name in ("validation0", "validation1", "validation2", "validation3", "test0", "test1"):
        assert page.count(f"<bdi>{name}.mp4</bdi>") == 1
    # A picture at the peak of each of the six, and one of the heat map's key nowhere.
    assert page.count("data:image/jpeg;base64,") >= 6
    assert "calibration0" not in page
    assert "few-shot logistic regression on both" in page
    assert "other weights" in page
    assert re.findall(r"Test: Frame-level figures|Validation: Frame-level figures", page)

    assert "ceiling, perfect shares" in page
    for row in TOKENS_ALONE:
        # Smoothed as the bundle is, by which the sentence judges, and raw.
        assert page.count(f">{row}, smoothed<") == page.count(f">{row}, raw<") == 1
    assert (
        "isual tokens alone reach AUC" in page or "isual tokens alone (" in page or "over the visual tokens" in page
    )

    # The same once more, with what a build keeps.
    cache = tmp_path / "cache"
    bundle = Bundle.open(bundle_dir)
    learned = [(0.5, 10, 0.7), (1.0, 20, 0.75)]
    depth = (DepthPoint(4, 0.6, 0.5, 0.5), DepthPoint(5, 0.7, 0.6, 1.0))
    sampling = (SamplingPoint(8, 0.6, 0.5), SamplingPoint(16, 0.7, 0.6))
    kept = Evidence(hunted_like(bundle), an_embedding(), depth, learned, sampling)
    write_evidence(EntryStore(cache), bundle.manifest, kept)
    code, out, err = run(capfd, *common, "--split", "validation", "--cache", cache)
    assert (code, err) == (0, "")
    page = output.read_text(encoding="utf-8")
    everything = "curves videos experts separation evaluation depth frames calibration parity provenance absent"
    assert sections(page) == everything.split()
    assert "not in it: The ablation table" in out
    assert out.count("not in it") == 1
    assert "test0.mp4" not in page


def hunted_like(bundle: Bundle) -> Hunt:
    """A hunt that gives the bundle's experts, in their order."""
    geometry, experts = bundle.manifest.geometry, bundle.manifest.experts
    raw = np.random.default_rng(0).uniform(0.0, 0.1, (4, 2, geometry.layers, geometry.heads))
    for rank, expert in enumerate(experts):
        raw[:, :, expert.layer, expert.head] = 1.0 - 0.1 * rank
    return select(
        Saliency(*raw), ("coarse", "other"), geometry.head_dim, Selection(top_k=len(experts), prompt="coarse")
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--bundle", "nowhere"], 3, "nowhere"),
        (["--manifest", "nowhere.csv"], 1, "nowhere.csv"),
        (["--ablation", "nowhere.json"], 1, "nowhere.json"),
        (["--cache", "nowhere"], 2, "nowhere"),
        (["--output", "."], 2, "is a folder"),
        (["--output", "{bundle}/mine.html"], 2, "exactly what its manifest lists"),
        (["--output", "nowhere/report.html"], 1, "nowhere"),
        (["--manifest", "{calibration}"], 2, "split 'test' is empty"),
        (["--manifest", "{missing}"], 1, "gone.mp4"),
        (["--manifest", "{missing}", "--skip-unreadable"], 1, "no video of split 'test'"),
    ],
)
def test_bad_input_gets_one_line_and_no_report(
    arguments: list[str],
    code: int,
    said: str,
    bundle_dir: Path,
    dataset_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = dataset_csv.read_text(encoding="utf-8").splitlines()
    names = {"bundle": str(bundle_dir)}
    for name, lines in (
        ("calibration", [rows[0], *(f"{dataset_csv.parent}/{row}" for row in rows[1:] if ",calibration," in row)]),
        ("missing", [rows[0], "gone.mp4,anomalous,test,30-90,"]),
    ):
        names[name] = f"{name}.csv"
        Path(names[name]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = {"--bundle": str(bundle_dir), "--manifest": str(dataset_csv), "--output": "report.html"}
    flags = [word for word in arguments if word == "--skip-unreadable"]
    words = [word.format(**names) for word in arguments if word not in flags]
    given |= dict(zip(words[::2], words[1::2], strict=True))
    found, out, err = run(
        capfd, *(word for pair in given.items() for word in pair), *flags, "--provider", "cpu", "--quiet"
    )
    assert (found, out) == (code, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in err
    assert not Path("report.html").exists()
    assert not (bundle_dir / "mine.html").exists()
