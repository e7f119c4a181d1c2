"""A model repository: valid for Triton's own schema, whole or not at all, and considerate of what else is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from edge_command import with_manifest
from triton_server import here

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import OutputFailed, UsageError
from export.triton.configs import CONFIG, Serving, bundles_of
from export.triton.repository import write_repository

JPEG = {"jpeg_quality": "95", "jpeg_loss": "0.05"}


@pytest.fixture(scope="module")
def other(bundle_dir, tmp_path_factory) -> Bundle:
    """Another bundle of the same shapes."""
    return Bundle.open(with_manifest(bundle_dir, tmp_path_factory.mktemp("o") / "other", producer={"who": "else"}))


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def configurations(repository: Path) -> dict[str, object]:
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    return {
        path.parent.name: text_format.Parse(path.read_text(), schema.ModelConfig())
        for path in sorted(repository.glob(f"*/{CONFIG}"))
    }


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_the_configurations_are_of_tritons_schema_and_say_what_the_graphs_are(bundle, tmp_path, backend):
    serving = here(backend=backend, max_batch=16, preferred=(4, 16), delay_us=3000, device="gpu", instances=2)
    written = write_repository(bundle, tmp_path / "models", serving, jpeg=JPEG)
    found = configurations(tmp_path / "models")
    assert set(found) == set(written.models)
    manifest, base = bundle.manifest, written.base
    assert base == f"hh_{manifest.bundle_id[:12]}"
    vision, language, scorer = (found[f"{base}_{name}"] for name in ("vision", "language", "scorer"))
    height, width = manifest.pixels.height, manifest.pixels.width
    assert list(vision.input[0].dims) == [-1, height, width, 3]
    assert list(language.input[0].dims) == manifest.graphs.language.inputs[0].shape[1:]
    assert list(language.output[0].dims) == list(scorer.input[0].dims) == [manifest.feature_size]
    for model in (vision, language):
        assert model.backend == backend
        assert model.max_batch_size == 16
        assert list(model.dynamic_batching.preferred_batch_size) == [4, 16]
        assert model.dynamic_batching.max_queue_delay_microseconds == 3000
        assert (model.instance_group[0].count, model.instance_group[0].kind) == (2, 1)  # KIND_GPU
        assert [one.batch_size for one in model.model_warmup] == [1, 16]
    assert scorer.instance_group[0].kind == 2  # KIND_CPU
    for model in found.values():
        assert model.parameters["bundle_id_1"].string_value == manifest.bundle_id
    ensemble = found[f"{base}_segment_v1"]
    assert ensemble.platform == "ensemble"
    assert [step.model_name for step in ensemble.ensemble_scheduling.step] == [vision.name, language.name]
    decode = found[f"{base}_decode"]
    assert (decode.backend, decode.parameters["jpeg_quality"].string_value) == ("python", "95")
    # What a step takes, an earlier one gives, or the ensemble.
    for model in found.values():
        known = {tensor.name for tensor in model.input}
        for step in model.ensemble_scheduling.step:
            assert set(step.input_map.values()) <= known
            known |= set(step.output_map.values())
            assert found[step.model_name].version_policy.HasField("all")


def test_writing_again_changes_nothing_and_other_models_stay(bundle, other, tmp_path):
    repository = tmp_path / "models"
    (repository / "theirs" / "1").mkdir(parents=True)
    (repository / "theirs" / CONFIG).write_text('name: "theirs"')
    first = write_repository(bundle, repository, here())
    before = content(repository)
    assert write_repository(bundle, repository, here()) == first
    assert content(repository) == before
    second = write_repository(other, repository, here())
    assert not set(second.models) & set(first.models)
    assert {name: value for name, value in content(repository).items() if name in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


def test_bundles_of_one_name_are_versions(bundle, other, tmp_path):
    repository = tmp_path / "models"
    assert write_repository(bundle, repository, here(), "gate").version == 1
    assert write_repository(other, repository, here(), "gate").version == 2
    # Again, with other settings: the version stays, and so does the other one.
    assert write_repository(bundle, repository, here(max_batch=2), "gate").version == 1
    for model in ("gate_vision", "gate_language", "gate_scorer"):
        both = bundles_of((repository / model / CONFIG).read_text())
        assert both == {1: bundle.manifest.bundle_id, 2: other.manifest.bundle_id}
        assert sorted(path.name for path in (repository / model).iterdir()) == ["1", "2", CONFIG]
    found = configurations(repository)
    for version in (1, 2):
        assert {step.model_version for step in found[f"gate_segment_v{version}"].ensemble_scheduling.step} == {
            version
        }


def test_what_is_no_model_of_a_bundle_is_not_touched(bundle, tmp_path):
    repository = tmp_path / "models"
    (repository / "gate_scorer").mkdir(parents=True)
    (repository / "gate_scorer" / CONFIG).write_text('name: "gate_scorer"')
    before = content(tmp_path)
    with pytest.raises(UsageError, match="gate_scorer: is there already and no model of a bundle; choose another"):
        write_repository(bundle, repository, here(), "gate")
    assert content(tmp_path) == before


def test_a_rename_that_fails_leaves_the_repository_as_it_was(bundle, other, tmp_path, monkeypatch):
    repository = tmp_path / "models"
    write_repository(bundle, repository, here(), "gate")
    before = content(repository)
    rename, done, limit = Path.rename, [], [0]

    def failing(self: Path, target: Path) -> Path:
        done.append(target)
        if len(done) == limit[0]:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    for limit[0] in range(1, 10):
        done.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", failing)
            with pytest.raises(OutputFailed, match=r"No space left.*nothing of it was changed"):
                write_repository(other, repository, here(), "gate")
        assert content(repository) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


@pytest.mark.parametrize("name", ["", "../x", "a b", "_a", "a" * 65])
def test_a_name_that_is_no_folder_is_refused(bundle, tmp_path, name):
    with pytest.raises(UsageError, match="no name of models"):
        write_repository(bundle, tmp_path / "models", here(), name)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"instances": 0}, {"delay_us": -1}, {"preferred": (9,)}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        Serving(**wrong)
