"""A connection that comes back by itself: logins, certificates, and what it says when it cannot."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broker import MOSQUITTO_PASSWD, Broker, Listener, broker, kept_by, until

from edge_runtime.errors import MissingExtra, UsageError
from edge_runtime.outputs.mqtt_link import BrokerLink
from edge_runtime.outputs.mqtt_settings import MqttSettings, TlsSettings

__all__ = ["broker"]

MakeLink = Callable[..., BrokerLink]

SECRET = "correct horse"


@pytest.fixture
def make_link() -> Iterator[MakeLink]:
    made: list[BrokerLink] = []

    def make(port: int, **settings: object) -> BrokerLink:
        link = BrokerLink(MqttSettings("127.0.0.1", port, **settings), "p/available", {"p/+/set": print})  # type: ignore[arg-type]
        made.append(link)
        link.open()
        return link

    yield make
    for link in made:
        link.close()


@pytest.fixture
def guarded(broker: Broker) -> Broker:
    """The broker, but it asks for a login."""
    if MOSQUITTO_PASSWD is None:
        pytest.skip("no mosquitto_passwd: apt-get install mosquitto")
    file = broker.folder / "passwords"
    subprocess.run([MOSQUITTO_PASSWD, "-b", "-c", str(file), "edge", SECRET], check=True)
    broker.kill()
    broker.lines = ("allow_anonymous false", f"password_file {file}")
    broker.start()
    return broker


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority of our own, and a broker and a client that it vouches for."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("papers")

    def make(name: str, *arguments: str) -> None:
        subject = ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *arguments]
        subprocess.run([openssl, *new], check=True, capture_output=True, cwd=folder)

    make("ca")
    for name in ("broker", "client"):
        make(name, "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
    return folder


def encrypted(broker: Broker, papers: Path, *more: str) -> int:
    broker.kill()
    files = (f"cafile {papers}/ca.pem", f"certfile {papers}/broker.pem", f"keyfile {papers}/broker.key")
    broker.lines = ("allow_anonymous true", *files, *more)
    broker.start()
    return broker.port


def test_a_wrong_password_is_told_once_and_tried_again_rarely(
    guarded: Broker, make_link: MakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    link = make_link(guarded.port, user="edge", password="hunter2")
    until(lambda: "refused" in link.why)
    assert not link.wait(4.0)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "refuses user 'edge'" in told[0]
    assert "check user and password" in told[0]
    assert "hunter2" not in caplog.text + repr(link.why)
    assert guarded.log.read_text().count("not authorised") == 1


def test_the_right_password_opens(guarded: Broker, make_link: MakeLink) -> None:
    assert make_link(guarded.port, user="edge", password=SECRET).wait(10)
    listener = Listener(guarded.port, user="edge", password=SECRET)
    until(lambda: listener.last("p/available") == "online")
    listener.close()


def test_tls_with_an_authority_of_ones_own(broker: Broker, papers: Path, make_link: MakeLink) -> None:
    port = encrypted(broker, papers)
    assert make_link(port, tls=TlsSettings(ca=papers / "ca.pem")).wait(10)
    assert make_link(port, tls=TlsSettings(insecure=True)).wait(10)
    stranger = make_link(port, tls=TlsSettings())
    until(lambda: "not trusted" in stranger.why)
    assert not stranger.wait(0)


def test_a_broker_may_ask_for_a_certificate(
    broker: Broker, papers: Path, make_link: MakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    port = encrypted(broker, papers, "require_certificate true")
    files = {"ca": papers / "ca.pem", "cert": papers / "client.pem", "key": papers / "client.key"}
    assert make_link(port, tls=TlsSettings(**files)).wait(10)
    for wrong in (TlsSettings(ca=papers / "ca.pem"), None):
        caplog.clear()
        link = make_link(port, tls=wrong)
        until(lambda: "does it want TLS, or a certificate?" in caplog.text)
        assert not link.wait(0)


@pytest.mark.parametrize("files", [{"ca": "nowhere.pem"}, {"ca": "ca.key"}, {"cert": "ca.pem", "key": "client.key"}])
def test_files_that_are_not_what_they_should_be_are_named(papers: Path, files: dict[str, str]) -> None:
    tls = TlsSettings(**{name: papers / file for name, file in files.items()})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=next(iter(files.values()))):
        BrokerLink(MqttSettings("127.0.0.1", 1, tls=tls), "p/available", {"p/+/set": print})


def test_a_broker_that_is_not_there_is_told_once_and_found_when_it_comes(
    broker: Broker, make_link: MakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broker.kill()
    link = make_link(broker.port)
    until(lambda: "Connection refused" in link.why)
    time.sleep(2.5)
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    broker.start()
    assert link.wait(15)
    until(lambda: [one.levelname for one in caplog.records] == ["WARNING", "INFO"])


def test_of_one_topic_the_newest_is_kept_over_a_restart(broker: Broker, make_link: MakeLink) -> None:
    link = make_link(broker.port)
    assert link.wait(10)
    link.keep("p/a", "1")
    broker.kill()
    for number in range(2, 6):
        link.keep("p/a", str(number))
    link.keep("p/b", "gone")
    link.keep("p/b", "")
    broker.start()
    assert link.wait(15)
    until(lambda: kept_by(broker.port) == {"p/a": b"5", "p/available": b"online"})


def test_what_hears_a_message_may_fail_and_the_connection_stays(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def hear(topic: str, payload: bytes) -> None:
        heard.append(topic)
        raise ValueError(payload.decode())

    link = BrokerLink(MqttSettings("127.0.0.1", broker.port), "p/available", {"p/+/set": hear})
    link.open()
    assert link.wait(10)
    listener = Listener(broker.port)
    for number in range(3):
        listener.say(f"p/{number}/set", "no good")
    until(lambda: len(heard) == 3)
    assert "a message could not be followed (no good)" in caplog.text
    assert link.wait(0)
    listener.close()
    link.close()
    until(lambda: kept_by(broker.port) == {"p/available": b"offline"})


def test_without_the_extra_the_pip_command_is_told() -> None:
    code = (
        "import sys; sys.modules['paho'] = None\n"
        "from edge_runtime.errors import MissingExtra\n"
        "from edge_runtime.outputs.mqtt import MqttSettings, MqttSink\n"
        "try: MqttSink(MqttSettings('127.0.0.1'))\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == 'paho-mqtt is not installed; run: pip install "headhunt-edge[mqtt]"\n'
    assert issubclass(MissingExtra, UsageError)
