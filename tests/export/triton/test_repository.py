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
    assert found[f"{base}_decode"].backend == "python"
    for name in ("jpeg", "jpeg_tokens"):
        assert found[f"{base}_{name}_v1"].parameters["jpeg_quality"].string_value == "95"
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
    first, second = (write_repository(of, repository, here(), "gate").version for of in (bundle, other))
    # Again: the version stays, and so does the other one.
    assert write_repository(bundle, repository, here(), "gate").version == first
    for model in ("gate_vision", "gate_language", "gate_scorer"):
        both = bundles_of((repository / model / CONFIG).read_text())
        assert both == {first: bundle.manifest.bundle_id, second: other.manifest.bundle_id}
        assert sorted(path.name for path in (repository / model).iterdir()) == sorted(
            [str(first), str(second), CONFIG]
        )
    found = configurations(repository)
    for version in (first, second):
        assert {step.model_version for step in found[f"gate_segment_v{version}"].ensemble_scheduling.step} == {
            version
        }
    # Written into another repository, by itself or last, a bundle has the same one: a client gets no other's answer.
    assert write_repository(other, tmp_path / "new", here(), "gate").version == second != first


def ensembles_fit(repository: Path) -> bool:
    """Whether no ensemble takes more segments than its steps: a server refuses it otherwise. Versions are whole."""
    found = configurations(repository)
    for name, model in found.items():
        for step in model.ensemble_scheduling.step:
            if model.max_batch_size > found[step.model_name].max_batch_size:
                return False
            folder = repository / step.model_name / str(step.model_version)
            if not (folder / found[step.model_name].default_model_filename).is_file():
                return False
        if not any(path.is_dir() for path in (repository / name).iterdir()):
            return False
    return True


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"max_batch": 8}, {"max_batch": 4}, "--max-batch 8, asked for is 4"),
        ({"max_batch": 4}, {"max_batch": 8}, "--max-batch 4, asked for is 8"),
        ({"backend": "onnxruntime"}, {"backend": "python"}, "--backend onnxruntime, asked for is python"),
        ({"preferred": (1, 2)}, {"preferred": (3,)}, "--preferred-batch 1, 2, asked for is 3"),
        ({"delay_us": 2500}, {"delay_us": 500}, "--queue-delay-ms 2.5, asked for is 0.5"),
        ({"instances": 2}, {}, "--instances 2, asked for is 1"),
        ({"device": "gpu"}, {}, "--device gpu, asked for is cpu"),
        ({"threads": 2}, {"threads": None}, "--threads 2, asked for is default"),
        (
            {"backend": "onnxruntime", "threads": None},
            {"backend": "onnxruntime", "threads": 12},
            "--threads default, asked for is 12",
        ),
        ({"python_path": ("/a b", '/"c"')}, {}, r'--python-path /a b:/\\"c\\", asked for is '),
    ],
)
def test_bundles_of_one_name_have_the_same_options(bundle, other, tmp_path, first, second, said):
    """All versions share a configuration: with another one, the bundle that is served would not load any more."""
    repository = tmp_path / "models"
    write_repository(bundle, repository, here(**first), "gate")
    before = content(repository)
    for jpeg in (None, JPEG):
        with pytest.raises(UsageError, match=rf"gate_\w+: was written with {said}.*or another --name") as refused:
            write_repository(other, repository, here(**second), "gate", jpeg)
        assert "\n" not in str(refused.value)
    assert content(repository) == before
    # The bundle by itself can be written otherwise, and another name can have what it likes.
    write_repository(other, repository, here(**second), "yard")
    for of in (bundle, other):
        write_repository(of, repository, here(**second), "gate")
    assert ensembles_fit(repository)


def test_each_version_has_its_own_jpeg(bundle, other, tmp_path):
    repository = tmp_path / "models"
    qualities = {
        write_repository(of, repository, here(), "gate", told).version: told
        for of, told in ((bundle, JPEG), (other, {"jpeg_quality": "80", "jpeg_loss": "0.2"}))
    }
    found = configurations(repository)
    for version, told in qualities.items():
        parameters = found[f"gate_jpeg_v{version}"].parameters
        assert {name: parameters[name].string_value for name in told} == told
    assert not set(JPEG) & set(found["gate_decode"].parameters)
    assert ensembles_fit(repository)


def test_jpeg_models_that_stay_are_not_left_with_other_options(bundle, tmp_path):
    repository = tmp_path / "models"
    write_repository(bundle, repository, here(max_batch=8), "gate", JPEG)
    before = content(repository)
    with pytest.raises(UsageError, match=r"--max-batch 8, asked for is 4, and gate and its JPEG models share it"):
        write_repository(bundle, repository, here(max_batch=4), "gate")
    assert content(repository) == before
    write_repository(bundle, repository, here(max_batch=8), "gate")
    assert content(repository) == before
    write_repository(bundle, repository, here(max_batch=4), "gate", JPEG)
    assert ensembles_fit(repository)


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
