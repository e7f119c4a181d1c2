"""Writes the models of a bundle into a Triton model repository, whole or not at all.

Files are made in a folder beside the repository and renamed into it, the ensembles last: a client looks for those.
What another bundle has there stays as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.bundle.external_data import external_locations
from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.files import make_folder
from edge_runtime.inference.triton_address import check_name
from edge_runtime.inference.triton_names import (
    QUALITY_PARAMETER,
    base_name,
    decode_model,
    jpeg_model,
    jpeg_tokens_model,
    language_model,
    score_model,
    scorer_model,
    segment_model,
    version_of,
    vision_model,
)
from export.staging import staging_folder
from export.triton import served_model
from export.triton.by_segment import write_by_segment
from export.triton.configs import (
    CONFIG,
    Serving,
    Tensor,
    Tensors,
    bundle_parameters,
    bundles_of,
    ensemble_config,
    graph_config,
    interface,
    options_of,
)

_GRAPH, _MODEL = "model.onnx", "model.py"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        base: What the models' names begin with.
        version: Of the bundle's models.
        models: Their names, the ensembles last.
    """

    base: str
    version: int
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Model:
    """One model on its way: its name, its version's folder, and what that gets."""

    name: str
    version: int
    config: Callable[[Mapping[int, str]], str]
    interface: str
    fill: Callable[[Path], None]


def write_repository(
    bundle: Bundle, repository: Path, serving: Serving, name: str | None = None, jpeg: Mapping[str, str] | None = None
) -> Written:
    """Write the models of a bundle; those that are there already are written anew.

    Args:
        bundle: An opened bundle.
        repository: The folder that `tritonserver --model-repository` gets; it is made where it is missing.
        serving: How they are run.
        name: What their names begin with, instead of the bundle's id. Each bundle of that name has a version of its
            own, by its id; all are run alike, since versions share a configuration.
        jpeg: Also write models that take JPEG: what their configuration says of it, `jpeg_quality` at least.

    Raises:
        UsageError: Something else has that name there, or a bundle of other shapes or that is run otherwise.
        OutputFailed: It cannot be written; the repository is as it was.
    """
    base = base_name(bundle.manifest.bundle_id) if name is None else check_name(name)
    there = _versions(repository, base)
    # Where the names hold the id there is no other version.
    version = 1 if name is None else version_of(bundle.manifest.bundle_id)
    versions = there | {version: bundle.manifest.bundle_id}
    models = _models(bundle, serving, base, version, jpeg)
    for model in models:
        _check_place(repository, model, there)
    others = set(there) - {version}
    if others or (jpeg is None and os.path.lexists(repository / jpeg_model(base, version))):
        sharing = "bundles of one name" if others else f"{base} and its JPEG models"
        _check_options(repository, models, versions, sharing)
    make_folder(repository)
    with staging_folder(repository) as work:
        for model in models:
            folder = work / model.name
            (folder / str(model.version)).mkdir(parents=True)
            (folder / CONFIG).write_text(model.config(versions), encoding="utf-8")
            model.fill(folder / str(model.version))
        for path in [work, *work.rglob("*")]:
            # A hard link shares its mode with the bundle's file.
            if path.is_dir() or path.name in (CONFIG, _MODEL):
                path.chmod(0o755 if path.is_dir() else 0o644)
        _install(work, repository, models)
    return Written(base, version, tuple(model.name for model in models))


def _models(
    bundle: Bundle, serving: Serving, base: str, version: int, jpeg: Mapping[str, str] | None
) -> list[_Model]:
    manifest = bundle.manifest
    tensors = Tensors.of(manifest)
    vision, language, scorer = vision_model(base), language_model(base), scorer_model(base)

    def of_graph(
        name: str, file: str, given: Tensor, made: Tensor, warm: Sequence[int], light: bool = False
    ) -> _Model:
        def config(versions: Mapping[int, str]) -> str:
            return graph_config(name, serving, given, made, warm, bundle_parameters(versions), light=light)

        def fill(folder: Path) -> None:
            source = bundle.file(file)
            if file == manifest.graphs.vision.file:
                write_by_segment(source, manifest, folder / _GRAPH)
            else:
                _link(source, folder / _GRAPH)
            for location in external_locations(source.read_bytes()):
                (folder / location).parent.mkdir(parents=True, exist_ok=True)
                _link(source.parent / location, folder / location)
            if serving.backend == "python":
                shutil.copyfile(str(served_model.__file__), folder / _MODEL)

        return _Model(name, version, config, interface([given], [made]), fill)

    # What a model takes and gives, by its name. An ensemble gives one thing: asked for less than all, servers fail.
    steps = {
        decode_model(base): (tensors.jpeg, tensors.frames),
        vision: (tensors.frames, tensors.tokens),
        language: (tensors.sequence, tensors.features),
        scorer: (tensors.features, tensors.probabilities),
    }

    def ensemble(name: str, *parts: str) -> _Model:
        given, made = steps[parts[0]][0], steps[parts[-1]][1]

        def config(versions: Mapping[int, str]) -> str:
            only = bundle_parameters({version: versions[version]})
            if jpeg is not None and parts[0] == decode_model(base):
                # Not with the model that decodes: its versions share a configuration.
                only |= jpeg
            return ensemble_config(name, serving, [(part, version, *steps[part]) for part in parts], only)

        return _Model(name, 1, config, interface([given], [made]), lambda folder: None)

    sampled = manifest.segment.sampled
    models = [
        of_graph(
            vision,
            manifest.graphs.vision.file,
            tensors.frames,
            tensors.tokens,
            [sampled, *tensors.frames.dims[1:]],
        ),
        of_graph(language, manifest.graphs.language.file, tensors.sequence, tensors.features, tensors.sequence.dims),
        of_graph(
            scorer, manifest.scorer.file, tensors.features, tensors.probabilities, tensors.features.dims, light=True
        ),
    ]
    ensembles = [
        ensemble(score_model(base, version), vision, language, scorer),
        ensemble(segment_model(base, version), vision, language),
    ]
    if jpeg is None:
        return [*models, *ensembles]
    assert QUALITY_PARAMETER in jpeg, "a client has to know the quality"
    decode = decode_model(base)
    ensembles += [
        ensemble(jpeg_tokens_model(base, version), decode, vision),
        ensemble(jpeg_model(base, version), decode, vision, language),
    ]
    return [*models, _decoding(decode, version, serving, tensors), *ensembles]


def _decoding(name: str, version: int, serving: Serving, tensors: Tensors) -> _Model:
    """What decodes is in Python, whatever runs the graphs."""
    in_python = Serving(backend="python", max_batch=serving.max_batch, delay_us=0, python_path=serving.python_path)

    def config(versions: Mapping[int, str]) -> str:
        told = bundle_parameters(versions)
        return graph_config(name, in_python, tensors.jpeg, tensors.frames, None, told, light=True)

    def fill(folder: Path) -> None:
        shutil.copyfile(str(served_model.__file__), folder / _MODEL)

    return _Model(name, version, config, interface([tensors.jpeg], [tensors.frames]), fill)


def _versions(repository: Path, base: str) -> dict[int, str]:
    """Which bundles have that name already."""
    config = repository / language_model(base) / CONFIG
    try:
        return bundles_of(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{config}: cannot be read ({getattr(error, 'strerror', None) or 'no text'})") from error


def _check_place(repository: Path, model: _Model, there: Mapping[int, str]) -> None:
    """Refuse to touch what is not ours, and to put other shapes under the same name."""
    folder = repository / model.name
    if not os.path.lexists(folder):
        return
    try:
        config = (folder / CONFIG).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        config = ""
    if not bundles_of(config):
        raise UsageError(f"{folder}: is there already and no model of a bundle; choose another --name")
    if model.interface not in config and set(there) - {model.version}:
        raise UsageError(f"{folder}: its bundle has other shapes, which versions cannot; choose another --name")


def _check_options(repository: Path, models: Sequence[_Model], versions: Mapping[int, str], sharing: str) -> None:
    """Refuse to run what stays there otherwise than it was written: an ensemble may not take more than its steps."""
    for model in models:
        try:
            there = options_of((repository / model.name / CONFIG).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        for option, wanted in options_of(model.config(versions)).items():
            if wanted != there[option]:
                raise UsageError(
                    f"{repository / model.name}: was written with {option} {there[option]}, asked for is {wanted}, "
                    f"and {sharing} share it; give the same options, or another --name"
                )


def _link(source: Path, target: Path) -> None:
    """The same file under another name where both are on one file system, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _install(work: Path, repository: Path, models: Sequence[_Model]) -> None:
    """Rename what is finished into the repository; if one rename fails, all are undone."""
    undo: list[tuple[Path, Path | None]] = []
    aside = work / ".replaced"
    aside.mkdir()

    def put(source: Path, target: Path) -> None:
        old = None
        if os.path.lexists(target):
            old = aside / f"{len(undo)}"
            target.rename(old)
            undo.append((target, old))
            source.rename(target)
        else:
            source.rename(target)
            undo.append((target, None))

    try:
        for model in models:
            folder = repository / model.name
            if not folder.exists():
                put(work / model.name, folder)
                continue
            put(work / model.name / str(model.version), folder / str(model.version))
            put(work / model.name / CONFIG, folder / CONFIG)
    except OSError as error:
        for target, old in reversed(undo):
            with suppress(OSError):
                if os.path.lexists(target):
                    target.rename(aside / f"undone-{target.parent.name}-{target.name}")
                if old is not None:
                    old.rename(target)
        raise OutputFailed(
            f"{repository}: the models could not be put there ({error.strerror}); nothing of it was changed"
        ) from error
