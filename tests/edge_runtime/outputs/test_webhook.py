"""Receivers get signed records, each until they have it, and can end that."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from http_servers import Reply, Request, http_server, make_papers

from edge_runtime.errors import NotDelivered, OutputFailed, UsageError
from edge_runtime.outputs.http_client import HttpServer, tls_context
from edge_runtime.outputs.sink import Output, Outputs
from edge_runtime.outputs.spool import Spool
from edge_runtime.outputs.spooled import SpooledSink, backoff_s
from edge_runtime.outputs.webhook import Webhook, read_secrets, signature
from edge_runtime.records import CameraRecord, Record, SegmentRecord

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def camera(number: int) -> CameraRecord:
    return CameraRecord("gate", "online", f"Straße {number}", time="2026-01-01T00:00:00.000Z")


def verified(request: Request, secret: str = SECRET) -> Record:
    """The record of a request, if its signature is right: the specification's steps for a receiver."""
    message_id, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    assert abs(time.time() - int(timestamp)) < 300
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.{request.body.decode()}"
    expected = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha256).digest()).decode()
    assert any(
        hmac.compare_digest(part, f"v1,{expected}") for part in request.headers["webhook-signature"].split(" ")
    )
    assert request.headers["content-type"] == "application/json"
    told = json.loads(request.body)
    return CameraRecord(told["camera"], told["state"], told["detail"], time=told["time"])


def test_the_signature_is_that_of_the_reference_implementation() -> None:
    """The vector of the specification's own libraries (`sign function works`)."""
    signed = signature(read_secrets(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_was_down_gets_everything_once_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edge_runtime.outputs.spooled.backoff_s", lambda failures, chance: backoff_s(failures, chance) / 100
    )
    got: list[Request] = []

    def keep(request: Request) -> Reply:
        got.append(request)
        return Reply(204)

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with http_server(keep) as port:
        pass
    with Spool(tmp_path / "spool") as spool:
        webhook = Webhook(f"http://127.0.0.1:{port}/hook?x=1", SECRET)
        sink = SpooledSink(webhook, spool, webhook.kinds)
        with Outputs([Output(sink)]) as outputs:
            for number in range(5):
                outputs.emit(camera(number))
            until(lambda: sink.waiting.records == 5)
            time.sleep(0.05)
            with http_server(keep, port):
                until(lambda: sink.waiting.records == 0)
            for number in range(5, 8):
                outputs.emit(camera(number))
            with http_server(keep, port):
                until(lambda: sink.waiting.records == 0 and len(got) >= 8)
    assert [verified(request) for request in got] == [camera(number) for number in range(8)]
    assert len({request.headers["webhook-id"] for request in got}) == 8
    assert {request.path for request in got} == {"/hook?x=1"}


def test_an_id_is_the_same_in_every_attempt() -> None:
    got: list[Request] = []
    replies = [Reply(500), Reply(503), Reply(200)]

    def fail_twice(request: Request) -> Reply:
        got.append(request)
        return replies.pop(0)

    seconds = iter([time.time(), time.time() + 20, time.time() + 40])
    with http_server(fail_twice) as port:
        webhook = Webhook(f"http://127.0.0.1:{port}", SECRET, now=lambda: next(seconds))
        for _ in range(2):
            with pytest.raises(NotDelivered):
                webhook.write(camera(1))
        webhook.write(camera(1))
    assert len({request.headers["webhook-id"] for request in got}) == 1
    assert len({request.headers["webhook-timestamp"] for request in got}) == 3
    assert all(verified(request) == camera(1) for request in got)


@pytest.mark.parametrize("status", [301, 307, 408, 425, 429, 500, 502, 503, 504])
def test_answers_that_are_no_verdict_are_tried_again(status: int) -> None:
    with (
        http_server(lambda _: Reply(status, headers={"location": "http://127.0.0.1:9/"})) as port,
        pytest.raises(NotDelivered, match=str(status)) as caught,
    ):
        Webhook(f"http://127.0.0.1:{port}", SECRET).write(camera(1))
    assert caught.value.after_s is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_for_one_record(status: int) -> None:
    with (
        http_server(lambda _: Reply(status, b"no\n\x1b[31mthanks")) as port,
        pytest.raises(OutputFailed, match=rf"refuses a record \({status}: no \\x1b\[31mthanks\)") as caught,
    ):
        Webhook(f"http://127.0.0.1:{port}", SECRET).write(camera(1))
    assert not isinstance(caught.value, NotDelivered)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_may_ask_to_be_left_alone(status: int) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    expected = {"7": 7.0, at: 100.0, "soon": None, "999999": 3600.0, "-1": None, "": None}
    for text, seconds in expected.items():
        reply = Reply(status, headers={"Retry-After": text})
        with http_server(lambda _, reply=reply: reply) as port, pytest.raises(NotDelivered) as caught:  # type: ignore[misc]
            Webhook(f"http://127.0.0.1:{port}", SECRET).write(camera(1))
        assert caught.value.after_s == (None if seconds is None else pytest.approx(seconds, abs=5))


def test_a_receiver_that_is_gone_gets_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    got: list[Request] = []

    def gone(request: Request) -> Reply:
        got.append(request)
        return Reply(410)

    with http_server(gone) as port:
        webhook = Webhook(f"http://127.0.0.1:{port}", SECRET)
        for number in range(5):
            webhook.write(camera(number))
        webhook.close()
    assert len(got) == 1
    assert "410 Gone" in caplog.text
    assert "5 records were left out" in caplog.text


def test_a_receiver_that_never_answers_is_not_waited_for_for_ever() -> None:
    def slow(_: Request) -> Reply:
        time.sleep(1)
        return Reply()

    begun = time.monotonic()
    with http_server(slow) as port, pytest.raises(NotDelivered, match="does not answer"):
        Webhook(f"http://127.0.0.1:{port}", SECRET, timeout_s=0.1).write(camera(1))
    assert time.monotonic() - begun < 30


def test_what_is_not_wanted_is_not_sent() -> None:
    Webhook("http://127.0.0.1:9", SECRET).write(SegmentRecord("gate", 0, 0, 48, 0.0, 1.6, 0.1, 0.1, False))


def test_two_secrets_sign_while_one_replaces_the_other() -> None:
    other = "whsec_" + base64.b64encode(b"another secret of 24 bytes").decode()
    got: list[Request] = []

    def keep(request: Request) -> Reply:
        got.append(request)
        return Reply()

    with http_server(keep) as port:
        Webhook(f"http://127.0.0.1:{port}", f"{SECRET} {other}").write(camera(1))
    assert verified(got[0]) == verified(got[0], other) == camera(1)


def test_without_a_secret_nothing_is_signed() -> None:
    got: list[Request] = []

    def keep(request: Request) -> Reply:
        got.append(request)
        return Reply()

    with http_server(keep) as port:
        Webhook(f"http://127.0.0.1:{port}").write(camera(1))
    assert "webhook-id" in got[0].headers
    assert "webhook-signature" not in got[0].headers


def test_a_server_has_to_show_a_certificate_that_is_trusted_and_made_out_to_it(tmp_path: Path) -> None:
    authority = make_papers(tmp_path, "authority")
    papers = make_papers(tmp_path, "localhost", "DNS:localhost", signer=authority)
    got: list[Request] = []

    def keep(request: Request) -> Reply:
        got.append(request)
        return Reply()

    with http_server(keep, tls=papers.served) as port:
        url = f"https://localhost:{port}"
        with pytest.raises(NotDelivered, match=r"its certificate is not trusted \(.*\); name a file with it"):
            Webhook(url, SECRET).write(camera(1))
        trusted = tls_context(authority.certificate)
        with pytest.raises(NotDelivered, match=r"not trusted \(IP address mismatch"):
            Webhook(url.replace("localhost", "127.0.0.1"), SECRET, tls=trusted).write(camera(1))
        Webhook(url, SECRET, tls=trusted).write(camera(1))
        Webhook(url, SECRET, tls=tls_context(verify=False)).write(camera(2))
    assert [verified(request) for request in got] == [camera(1), camera(2)]


def test_a_server_whose_very_certificate_is_trusted_may_have_any_name(tmp_path: Path) -> None:
    """As Frigate's, which it made itself for `*`."""
    own, other = make_papers(tmp_path, "*"), make_papers(tmp_path, "*")
    got: list[Request] = []

    def keep(request: Request) -> Reply:
        got.append(request)
        return Reply()

    with http_server(keep, tls=own.served) as port:
        webhook = Webhook(f"https://127.0.0.1:{port}", SECRET, tls=tls_context(own.certificate))
        for number in range(3):
            webhook.write(camera(number))
        with pytest.raises(NotDelivered, match="not trusted"):
            Webhook(f"https://127.0.0.1:{port}", SECRET, tls=tls_context(other.certificate)).write(camera(3))
    # Another one in its place, and then one that is made out to the name.
    with http_server(keep, port, tls=other.served), pytest.raises(NotDelivered, match="not trusted"):
        webhook.write(camera(4))
    proper = make_papers(tmp_path, "localhost", "IP:127.0.0.1", signer=own)
    with http_server(keep, port, tls=proper.served):
        webhook.write(camera(5))
    assert [verified(request) for request in got] == [camera(number) for number in (0, 1, 2, 5)]


@pytest.mark.parametrize("secret", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_öö"])
def test_secrets_that_sign_nothing(secret: str) -> None:
    with pytest.raises(UsageError) as caught:
        Webhook("http://127.0.0.1", secret)
    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "hook", "ftp://x/p4ss", "http://", "http://h:p4ss/", "http://h/p4ss\n", "http://[p4ss"]
)
def test_urls_that_cannot_be_read_are_not_quoted(url: str) -> None:
    with pytest.raises(UsageError, match="webhook: the URL") as caught:
        Webhook(url, SECRET)
    assert "p4ss" not in str(caught.value)


def test_a_password_in_the_url_is_sent_and_not_shown() -> None:
    got: list[Request] = []

    def refuse(request: Request) -> Reply:
        got.append(request)
        return Reply(500)

    with http_server(refuse) as port:
        webhook = Webhook(f"http://me:p4ss%21@127.0.0.1:{port}/t0ken", SECRET)
        with pytest.raises(NotDelivered) as refused:
            webhook.write(camera(1))
    with pytest.raises(NotDelivered) as unanswered:
        webhook.write(camera(1))
    assert got[0].headers["authorization"] == "Basic " + base64.b64encode(b"me:p4ss!").decode()
    for text in (webhook.name, str(refused.value), str(unanswered.value)):
        assert "p4ss" not in text
        assert "t0ken" not in text
        assert f"127.0.0.1:{port}" in text


def test_certificates_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    for name, trouble in {"ca.pem": "holds no certificates", "missing.pem": "No such file"}.items():
        with pytest.raises(UsageError, match=trouble):
            tls_context(tmp_path / name)
    assert HttpServer("https://[::1]:8971", "x", tls=tls_context(verify=False)).shown == "[::1]:8971"
