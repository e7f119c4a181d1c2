"""Where a bundle may be written, and the folder in which it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

import export.staging
from edge_runtime.bundle.manifest import MANIFEST
from edge_runtime.errors import OutputFailed, UsageError
from export.staging import check_space, check_target, staging_folder, take_place


def test_where_a_bundle_may_be_written(tmp_path: Path) -> None:
    check_target(tmp_path / "new", overwrite=False)
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty", overwrite=False)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / MANIFEST).write_text("{}")
    with pytest.raises(UsageError, match="--overwrite"):
        check_target(tmp_path / "bundle", overwrite=False)
    check_target(tmp_path / "bundle", overwrite=True)


def test_graphs_that_will_not_fit_on_the_disk_are_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.staging, "free_space", lambda _path: 3 * 2**30)
    target = tmp_path / "folder" / "bundle"
    assert check_space(target, 2**30, 3 * 2**30) is None
    remark = check_space(target, 2**30, 4 * 2**30)
    assert remark is not None
    assert "1.0 GiB to 4.0 GiB" in remark
    assert "--max-layer" in remark
    with pytest.raises(OutputFailed, match=r"folder: .*3\.1 GiB to 9\.0 GiB .* 3\.0 GiB are free; .*--output"):
        check_space(target, 3 * 2**30 + 2**27, 9 * 2**30)


def test_what_is_no_bundle_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "folder", "link"):
        for overwrite in (True, False):
            with pytest.raises(UsageError, match="is not a bundle"):
                check_target(tmp_path / name, overwrite)


def test_a_parent_that_is_a_file_is_an_output_that_failed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputFailed, match="file"), staging_folder(tmp_path / "file" / "bundle"):
        pass


def test_a_folder_that_took_its_place_stays_and_one_that_did_not_goes(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for content in ("old", "new"):
        with staging_folder(target) as work:
            (work / "file").write_text(content)
            take_place(work, target)
        assert (target / "file").read_text() == content
    with staging_folder(target) as work:
        (work / "file").write_text("never finished")
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
