"""The graphs on a real Triton server: the same values as here, and failures that are failures."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from subprocess import DEVNULL

import numpy as np
import pytest
from edge_command import STOP_S, hh_edge, of_type, parsed, start, with_manifest
from rtsp import free_port
from served_run import wait_for
from triton_server import TritonServer, backends, here, served_bundle

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import EngineUnreachable, InferenceFailed, MissingExtra, ProviderUnavailable, UsageError
from edge_runtime.inference.engine import Engine, LossyEngine
from edge_runtime.inference.engines import open_engine, open_graphs
from edge_runtime.inference.selftest import self_test
from edge_runtime.inference.triton_engine import TritonEngine, decode_jpeg, encode_jpeg
from edge_runtime.stream.segments import Segment
from edge_runtime.watch.scoring import Waiting, score_together
from export.triton.repository import write_repository
from offline.console import Console
from offline.recipes.triton import measure_jpeg

__all__ = ["backends", "served_bundle"]

TOLERANCE = 1e-5


@contextmanager
def asking(bundle: Bundle, address: str) -> Iterator[TritonEngine]:
    engine = TritonEngine(bundle.manifest, address)
    try:
        yield engine
    finally:
        engine.close()


def allow(engine: TritonEngine, deadline_s: float) -> None:
    """Give calls so many seconds from now on; opened is an engine with as many as a busy machine needs."""
    engine._replicas._address = replace(engine._replicas._address, deadline_s=deadline_s)


def once_it_answers(engine: TritonEngine, frames):
    """Features from a server that comes back; a busy machine may need more than one call's time for that."""
    for _ in range(20):
        with suppress(EngineUnreachable):
            return engine.features(frames)
    raise AssertionError("it does not answer again")


@pytest.fixture(scope="module")
def local(bundle):
    engine = open_engine(bundle, "cpu", 1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def frames(bundle):
    shape = bundle.golden().frames.shape[1:]
    return np.random.default_rng(3).integers(0, 256, (6, *shape), dtype=np.uint8)


def test_the_server_gives_what_this_machine_gives(bundle, served_bundle, local, frames):
    engine = open_engine(bundle, served_bundle.address)
    assert isinstance(engine, Engine)
    assert engine.provider == "triton"
    for given in (frames, frames[:1], frames[:1, :3]):
        tokens = engine.tokens(given)
        np.testing.assert_allclose(tokens, local.tokens(given), atol=TOLERANCE)
        assert tokens.dtype == np.float32
    tokens = local.tokens(frames)
    np.testing.assert_allclose(engine.language(tokens), local.language(tokens), atol=TOLERANCE)
    # Six segments, where one request takes four.
    np.testing.assert_allclose(engine.features(frames), local.features(frames), atol=TOLERANCE)
    assert engine.features(frames[:0]).shape == (0, bundle.manifest.feature_size)
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.features(frames)
    engine.close()


@pytest.mark.parametrize("wire", ["raw", "jpeg"])
def test_a_detector_tests_itself_on_it_and_scores_alike(bundle, served_bundle, local, frames, wire):
    with asking(bundle, f"{served_bundle.address}?wire={wire}") as engine:
        differences = self_test(engine, bundle.golden(), ("fp32", "fp32"), lambda _: bundle.golden().probabilities)
        assert [one.stage for one in differences[:3]] == ["tokens", "features", "probabilities"]
        assert all(one.passed for one in differences)
        assert len(differences) == (4 if wire == "jpeg" else 3)
        assert isinstance(engine, LossyEngine)
        with Detector(bundle, engine=engine) as there, Detector(bundle, engine=local) as at_home:
            sent = frames
            if wire == "jpeg":
                sent = decode_jpeg(encode_jpeg(frames, 95), *frames.shape[2:4])
                # Of what a server sees of frames with noise in every pixel, JPEG changes something.
                assert np.abs(engine.tokens(frames) - local.tokens(frames)).max() > TOLERANCE
            np.testing.assert_allclose(there.score(frames), at_home.score(sent), atol=TOLERANCE)


def test_many_threads_get_their_own_answers(bundle, served_bundle, local, frames):
    expected = local.features(frames)
    with asking(bundle, served_bundle.address) as engine:
        wrong: list[int] = []

        def ask(place: int) -> None:
            for _ in range(5):
                found = engine.features(frames[place : place + 1])
                if not np.allclose(found, expected[place : place + 1], atol=TOLERANCE):
                    wrong.append(place)

        threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(frames))]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert wrong == []


def test_a_wrong_address_is_one_line_within_the_deadline(bundle):
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailable, match=r"127\.0\.0\.1:\d+: .*look at the address") as refused:
        open_engine(bundle, f"triton://127.0.0.1:{free_port()}?deadline_s=2")
    assert time.monotonic() - begun < 20
    assert "\n" not in str(refused.value)


def test_a_server_without_the_bundle_says_what_to_do(bundle, served_bundle):
    with pytest.raises(ProviderUnavailable, match=r"has no model gate_language; write it .*`hh-offline triton`"):
        open_engine(bundle, f"{served_bundle.address}/gate")


def test_graphs_that_are_no_bundle_yet_are_not_served(bundle, served_bundle):
    from edge_runtime.inference.engine import GraphFiles

    files = GraphFiles(bundle.file("vision.onnx"), bundle.file("language.onnx"))
    with pytest.raises(UsageError, match="serves bundles that are built"):
        open_graphs(files, served_bundle.address)


def test_without_the_client_the_extra_is_named(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(MissingExtra, match=r'pip install "headhunt-edge\[triton\]"'):
        open_engine(bundle, "triton://127.0.0.1:1")


def test_the_client_without_grpc_is_as_good_as_none(bundle, monkeypatch):
    """`pip install tritonclient` brings only its HTTP side, or none."""
    monkeypatch.delitem(sys.modules, "tritonclient.grpc", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtra, match=r'without gRPC; run: pip install "headhunt-edge\[triton\]"'):
        open_engine(bundle, "triton://127.0.0.1:1")


def test_another_bundle_of_the_same_name_is_refused(bundle, bundle_dir, served_bundle, tmp_path):
    other = Bundle.open(with_manifest(bundle_dir, tmp_path / "other", producer={"who": "else"}))
    # As if somebody had given the models of one bundle the other's name.
    with pytest.raises(ProviderUnavailable, match=f"serves another bundle .*{bundle.manifest.bundle_id[:12]}"):
        open_engine(other, f"{served_bundle.address}/hh_{bundle.manifest.bundle_id[:12]}")


def test_bundles_of_one_name_are_served_side_by_side(bundle, bundle_dir, backends, local, frames, tmp_path):
    other = Bundle.open(with_manifest(bundle_dir, tmp_path / "other", producer={"who": "else"}))
    console, qualities = Console(quiet=True), ((bundle, 95), (other, 50))
    for of, quality in qualities:
        told = measure_jpeg(of, quality, None, console).parameters()
        write_repository(of, tmp_path / "models", here(), "gate", told)
    with pytest.raises(UsageError, match="--max-batch 4, asked for is 2"):
        write_repository(other, tmp_path / "models", here(max_batch=2), "gate")
    losses = []
    with TritonServer(backends, tmp_path / "models") as server:
        for of, quality in qualities:
            with asking(of, f"{server.address}/gate?wire=jpeg") as engine:
                sent = decode_jpeg(encode_jpeg(frames[:2], quality), *frames.shape[2:4])
                np.testing.assert_allclose(engine.features(frames[:2]), local.features(sent), atol=TOLERANCE)
                losses.append(engine.loss)
    assert losses[0] < losses[1]


def test_a_server_that_has_another_bundle_of_the_name_between_two_calls_scores_nothing(
    bundle, bundle_dir, backends, frames, tmp_path
):
    """Both repositories are written from scratch, as for a new container: nothing on the connection tells."""
    other = Bundle.open(with_manifest(bundle_dir, tmp_path / "other", producer={"who": "else"}))
    for of in (bundle, other):
        write_repository(of, tmp_path / of.manifest.bundle_id, here(), "gate")
    server = TritonServer(backends, tmp_path / bundle.manifest.bundle_id)
    with server, asking(bundle, f"{server.address}/gate?deadline_s=60") as engine:
        tokens = engine.tokens(frames[:1])
        engine.language(tokens)
        engine.features(frames[:1])
        server.kill()
        server.repository = tmp_path / other.manifest.bundle_id
        server.start()
        replica = engine._replicas._replicas[0]
        served = replica.served
        for call in (
            lambda: engine.features(frames[:1]),
            lambda: engine.tokens(frames[:1]),
            lambda: engine.language(tokens),
        ):
            replica.served = served
            with pytest.raises(EngineUnreachable):
                call()
        with pytest.raises(EngineUnreachable, match="serves another bundle as gate"):
            engine.features(frames[:1])


NONSENSE = """
import json, sys, time
import numpy as np


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        values = {key: value["string_value"] for key, value in config["parameters"].items()}
        sys.path += values["python_path"].split(":")
        sys.path.append(args["model_repository"] + "/" + args["model_version"])
        import served
        self.capsule = served._capsule

    def execute(self, requests):
        import triton_python_backend_utils as backend
        responses = []
        for request in requests:
            given = np.from_dlpack(backend.get_input_tensor_by_name(request, "tokens"))
            what = open("WHAT").read()
            made = np.zeros((len(given), SIZE), np.float32)
            if what == "nan":
                made[0, -1] = np.nan
            elif what == "shape":
                made = made[:, :-1].copy()
            elif what == "dtype":
                made = made.astype(np.float64)
            elif what == "slow":
                end = time.monotonic() + 120
                while open("WHAT").read() == "slow" and time.monotonic() < end:
                    time.sleep(0.05)
            elif what == "error":
                responses.append(backend.InferenceResponse(error=backend.TritonError("it is Monday")))
                continue
            tensor = backend.Tensor.from_dlpack("features", self.capsule(made))
            responses.append(backend.InferenceResponse([tensor]))
        return responses
"""


@pytest.fixture(scope="module")
def nonsense(bundle, backends, tmp_path_factory):
    """A server whose language model answers what a file says."""
    folder = tmp_path_factory.mktemp("nonsense")
    written = write_repository(bundle, folder / "models", here())
    model = folder / "models" / f"{written.base}_language" / "1"
    (model / "model.py").rename(model / "served.py")
    what = folder / "what"
    what.write_text("zeros")
    text = NONSENSE.replace("WHAT", str(what)).replace("SIZE", str(bundle.manifest.feature_size))
    (model / "model.py").write_text(text)
    with TritonServer(backends, folder / "models") as server:
        yield server, what


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("nan", "its features are not finite"),
        ("shape", r"features|shape"),
        ("dtype", r"features|FP64|data.?type"),
        ("error", "it is Monday"),
    ],
)
def test_nonsense_is_a_failure_in_one_line_at_once(bundle, nonsense, frames, answer, said):
    server, what = nonsense
    what.write_text("zeros")
    with asking(bundle, f"{server.address}?deadline_s=120") as engine:
        assert not engine.features(frames[:1]).any()
        what.write_text(answer)
        begun = time.monotonic()
        for call in (lambda: engine.features(frames[:1]), lambda: engine.language(bundle.golden().tokens)):
            with pytest.raises(InferenceFailed, match=said) as failed:
                call()
            assert "\n" not in str(failed.value)
        assert time.monotonic() - begun < 60
        what.write_text("zeros")
        assert not engine.features(frames[:1]).any()


def test_no_call_outlasts_its_deadline_and_an_abandoned_one_ends_at_once(bundle, nonsense, frames):
    server, what = nonsense
    what.write_text("zeros")
    with asking(bundle, server.address) as engine:
        what.write_text("slow")
        allow(engine, 1)
        begun = time.monotonic()
        with pytest.raises(EngineUnreachable, match="no answer in time"):
            engine.features(frames[:1])
        assert 0.8 < time.monotonic() - begun < 60
    what.write_text("zeros")
    with asking(bundle, f"{server.address}?deadline_s=100") as engine:
        what.write_text("slow")
        threading.Timer(0.5, engine.abandon).start()
        begun = time.monotonic()
        with pytest.raises(InferenceFailed, match="abandoned"):
            engine.features(frames[:1])
        assert time.monotonic() - begun < 60
        with pytest.raises(InferenceFailed, match="abandoned"):
            engine.features(frames[:1])
    what.write_text("zeros")


@pytest.fixture(scope="module")
def mortal(bundle, backends, tmp_path_factory):
    """A server that tests may kill and pause; they leave it running."""
    folder = tmp_path_factory.mktemp("mortal")
    write_repository(bundle, folder / "models", here())
    with TritonServer(backends, folder / "models") as server:
        yield server


def test_a_server_that_is_killed_paused_and_started_again(bundle, mortal, local, frames, caplog):
    caplog.set_level(logging.WARNING)
    expected, server = local.features(frames[:1]), mortal
    with Detector(bundle, server.address) as detector:
        engine = detector.engine
        assert isinstance(engine, TritonEngine)
        server.kill()
        allow(engine, 2)
        begun = time.monotonic()
        with pytest.raises(EngineUnreachable):
            engine.features(frames[:1])
        assert time.monotonic() - begun < 60
        # While it is down, each call asks once: what cannot be scored is known soon.
        allow(engine, 120)
        begun = time.monotonic()
        with pytest.raises(EngineUnreachable):
            engine.features(frames[:1])
        assert time.monotonic() - begun < 60
        # Nor does a batch wait for as many deadlines as it has segments.
        segments = [
            Waiting("gate", Segment(place, 48 * place, 48 * place + 48, place, place + 1, frames[place]), detector)
            for place in range(6)
        ]
        begun = time.monotonic()
        assert score_together(segments) == [None] * 6
        assert time.monotonic() - begun < 60
        server.start()
        np.testing.assert_allclose(once_it_answers(engine, frames[:1]), expected, atol=TOLERANCE)
        server.pause()
        allow(engine, 2)
        begun = time.monotonic()
        with pytest.raises(EngineUnreachable):
            engine.features(frames[:1])
        assert time.monotonic() - begun < 60
        server.resume()
        allow(engine, 10)
        np.testing.assert_allclose(once_it_answers(engine, frames[:1]), expected, atol=TOLERANCE)
    assert "; it is tried again" in caplog.text
    assert "answers again" in caplog.text


def test_live_cameras_go_on_while_no_server_answers(bundle_dir, mortal, clip_path, tmp_path):
    out = tmp_path / "out.jsonl"
    cameras = [word for name in "ab" for word in ("--camera", f"{name}=loop:{clip_path}")]
    provider = f"{mortal.address}?deadline_s=2.5"
    run = start("run", "--bundle", bundle_dir, *cameras, "--provider", provider, "--output", out, stderr=DEVNULL)

    def least(kind: str) -> int:
        """Of a type, what the camera with fewer of them has."""
        lines = out.read_text().splitlines() if out.exists() else []
        found = of_type([json.loads(line) for line in lines if line.endswith("}")], kind)
        return min(sum(one["camera"] == name for one in found) for name in "ab")

    try:
        wait_for(lambda: least("segment") >= 1)
        mortal.pause()
        try:
            wait_for(lambda: least("gap") >= 1)
        finally:
            mortal.resume()
        before = least("segment")
        wait_for(lambda: least("segment") > before)
        run.send_signal(signal.SIGTERM)
        assert run.wait(STOP_S) == 0
    finally:
        run.kill()
        run.wait()
    records = parsed(out.read_text())
    for name in "ab":
        own = [one for one in records if one.get("camera") == name and one["type"] in ("segment", "gap")]
        # A busy machine may fall behind besides.
        assert {"unscored"} <= {one["reason"] for one in of_type(own, "gap")} <= {"unscored", "dropped"}
        # Whatever was not scored is told, and nothing else is missing.
        own.sort(key=lambda one: one["start_s"])
        for one, following in pairwise(own):
            assert following["start_s"] == pytest.approx(one["end_s"], abs=0.1)


def test_another_replica_answers_when_one_is_killed(bundle, mortal, served_bundle, local, frames):
    expected, server = local.features(frames[:1]), mortal
    second = served_bundle.address.removeprefix("triton://")
    with asking(bundle, f"{server.address},{second}?deadline_s=20") as engine:
        for call in range(6):
            if call == 2:
                server.kill()
            np.testing.assert_allclose(engine.features(frames[:1]), expected, atol=TOLERANCE)
    # One that is down at the start is no reason not to start.
    with asking(bundle, f"{server.address},{second}?deadline_s=20") as engine:
        np.testing.assert_allclose(engine.features(frames[:1]), expected, atol=TOLERANCE)
    server.start(wait=False)


def scores(records):
    return {(one["start_frame"], one["end_frame"]): one["score"] for one in of_type(records, "segment")}


def test_hh_edge_writes_the_same_records_by_way_of_a_server(bundle_dir, served_bundle, clip_path, tmp_path):
    found = {}
    for name, provider in (("here", "cpu"), ("there", served_bundle.address)):
        out = tmp_path / f"{name}.jsonl"
        done = hh_edge(
            "run", "--bundle", bundle_dir, "--camera", clip_path, "--provider", provider, "--output", out, "--quiet"
        )
        assert done.returncode == 0, done.stderr
        found[name] = parsed(out.read_text())[1:]
    assert [{**one, "score": 0, "smoothed": 0, "peak": 0, "mean": 0, "id": 0} for one in found["here"]] == [
        {**one, "score": 0, "smoothed": 0, "peak": 0, "mean": 0, "id": 0} for one in found["there"]
    ]
    here_, there = scores(found["here"]), scores(found["there"])
    assert here_.keys() == there.keys()
    assert here_
    assert max(abs(here_[span] - there[span]) for span in here_) <= TOLERANCE


def test_the_command_lines_say_what_is_wrong_in_one_line(bundle_dir, served_bundle, clip_path):
    for provider, code, said in (
        ("triton", 2, "needs the address of a server"),
        (f"triton://127.0.0.1:{free_port()}?deadline_s=1", 1, "look at the address"),
        (f"{served_bundle.address}/gate", 1, "has no model gate_language"),
    ):
        done = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path, "--provider", provider, "--quiet")
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) <= (3 if code == 2 else 1)
    done = hh_edge("verify", bundle_dir, "--provider", served_bundle.address)
    assert done.returncode == 0, done.stderr
    assert "verified on triton" in done.stdout


def test_jpeg_changes_less_the_higher_its_quality(bundle):
    effects = [measure_jpeg(bundle, quality, None, Console(quiet=True)) for quality in (50, 95)]
    assert effects[0].ratio < effects[1].ratio < 1
    assert effects[0].loss > effects[1].loss > 0


@pytest.mark.parametrize("frames_a_segment", [1, 4])
def test_encoded_frames_are_the_frames_but_for_what_jpeg_loses(frames_a_segment):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    given = np.zeros((2, frames_a_segment, 48, 64, 3), np.uint8)
    # Another ramp in each channel: a swap of two would show.
    given[..., 0], given[..., 1], given[..., 2] = ramp, ramp[::-1], 90
    files = encode_jpeg(given, 95)
    assert files.dtype == np.uint8
    back = decode_jpeg(files, 48, 64)
    assert np.abs(back.astype(int) - given).max() <= 8
    with pytest.raises(ValueError, match="no JPEG picture of 64 x 40"):
        decode_jpeg(files, 40, 64)
    with pytest.raises(ValueError, match="no JPEG"):
        decode_jpeg(np.zeros_like(files), 48, 64)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of this computer, signed by itself, and its key."""
    import datetime
    import ipaddress

    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


def test_a_server_with_tls_and_a_token(bundle, backends, local, frames, certificate, tmp_path, monkeypatch):
    monkeypatch.delenv("HEADHUNT_TRITON_TOKEN", raising=False)
    cert, key = certificate
    write_repository(bundle, tmp_path / "models", here())
    options = [
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={cert}",
        f"--grpc-server-key={key}",
        "--grpc-restricted-protocol=inference,model-config:triton-x=s3cret",
    ]
    with TritonServer(backends, tmp_path / "models", options) as server:
        address = f"triton+tls://127.0.0.1:{server.port}?ca={cert}&token_header=triton-grpc-protocol-triton-x"
        with pytest.raises(ProviderUnavailable, match="restricted") as refused:
            TritonEngine(bundle.manifest, address)
        assert "\n" not in str(refused.value)
        monkeypatch.setenv("HEADHUNT_TRITON_TOKEN", "s3cret")
        with asking(bundle, address) as engine:
            np.testing.assert_allclose(engine.features(frames[:1]), local.features(frames[:1]), atol=TOLERANCE)
        # Without TLS nothing is heard, and with another authority nothing is said.
        with pytest.raises(ProviderUnavailable):
            TritonEngine(bundle.manifest, f"triton://127.0.0.1:{server.port}?deadline_s=2")
        with pytest.raises(ProviderUnavailable):
            TritonEngine(bundle.manifest, f"triton+tls://127.0.0.1:{server.port}?deadline_s=2")
    with pytest.raises(ProviderUnavailable, match="certificate"):
        TritonEngine(bundle.manifest, "triton+tls://127.0.0.1:1?ca=/nowhere.pem")
