"""Settings of a broker: the password is shown nowhere, and what no broker takes is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import UsageError
from edge_runtime.outputs.mqtt_settings import MqttSettings, TlsSettings


def test_the_password_is_in_no_text() -> None:
    settings = MqttSettings("broker", user="edge", password="hunter2")
    assert "hunter2" not in repr(settings) + str(settings) + settings.shown
    with pytest.raises(UsageError) as refused:
        MqttSettings("broker", user="edge", password="hunter2\0")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (MqttSettings("broker"), "mqtt://broker:1883"),
        (MqttSettings("broker", tls=TlsSettings()), "mqtts://broker:8883"),
        (MqttSettings("broker", 1), "mqtt://broker:1"),
        (MqttSettings("::1"), "mqtt://[::1]:1883"),
    ],
)
def test_the_port_follows_from_tls(settings: MqttSettings, shown: str) -> None:
    assert settings.shown == shown


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"host": ""}, "host"),
        ({"host": "mqtt://broker"}, "host"),
        ({"host": "a..b"}, "host"),
        ({"host": "two words"}, "host"),
        ({"port": 0}, "port"),
        ({"port": 65_536}, "port"),
        ({"keepalive_s": 0}, "keepalive"),
        ({"keepalive_s": 65_536}, "keepalive"),
        ({"password": "hunter2"}, "user"),
        ({"prefix": ""}, "prefix"),
        ({"prefix": "a/#"}, "prefix"),
        ({"prefix": "a/+/b"}, "prefix"),
        ({"prefix": "/a"}, "prefix"),
        ({"prefix": "a/"}, "prefix"),
        ({"prefix": "$SYS"}, "prefix"),
        ({"prefix": "a\n"}, "prefix"),
        ({"discovery_prefix": "#"}, "discovery_prefix"),
        ({"user": "edge\0"}, "user"),
        ({"client_id": "\udcff"}, "client_id"),
    ],
)
def test_nonsense_is_refused_by_name(values: dict[str, Any], names: str) -> None:
    with pytest.raises(UsageError, match=names):
        MqttSettings(**({"host": "broker"} | values))


@pytest.mark.parametrize("values", [{"cert": Path("a")}, {"key": Path("a")}])
def test_a_certificate_without_its_key_is_refused(values: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="both, cert and key"):
        TlsSettings(**values)
