"""cameras.yaml: what is read, what is refused with the line and the way out, and what is never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clips import ROOT
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from edge_runtime.site.wish import AlarmWish
from edge_runtime.watch import config
from edge_runtime.watch.config import Plan, read_plan
from edge_runtime.watch.config_settings import json_schema, parse_listen
from edge_runtime.watch.sites import folder_of, learns

SCHEMA = ROOT / "docs" / "cameras.schema.json"
HEAD = "version: 1\n"


def read(folder: Path, text: str, environment: dict[str, str] | None = None, secrets: str | None = None) -> Plan:
    path = folder / "cameras.yaml"
    path.write_text(text)
    path.chmod(0o600)
    if secrets is not None:
        (folder / "secrets.yaml").write_text(secrets)
        (folder / "secrets.yaml").chmod(0o600)
    return read_plan(path, environment or {})


def refused(folder: Path, text: str, environment: dict[str, str] | None = None, secrets: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, text, environment, secrets)
    message = str(caught.value)
    assert message.isprintable()
    return message.removeprefix(f"{folder}/cameras.yaml: ")


# ---- what is read


def test_a_whole_configuration(tmp_path: Path) -> None:
    plan = read(
        tmp_path,
        """
version: 1
bundle: bundle
provider: cuda:1
locator: low_latency
timezone: Europe/Berlin
x-night: &night {schedule: "22:00-06:00", locator: full}
mqtt: {host: broker, port: "${PORT:-1884}", user: hh, password: !secret mqtt}
webhook:
  - {url: "https://hooks/x", secret: x, kinds: [event, gap]}
  - {url: "https://hooks/y", secret: x, tls_ca: ~/hooks.pem}
frigate: {url: "https://frigate:8971", cameras: {gate: front}, tls_ca: frigate.pem}
output: {path: records.jsonl, rotate_mb: 100, keep: 3}
spool: {path: /var/spool/hh}
clips: {path: kept, pre_roll: 2, max_mb: 0.5}
cameras:
  gate: {<<: *night, source: "rtsp://hh:${GATE}@10.0.0.7/s"}
  desk: {source: 0, enabled: no, mask: [[[0, 0], [0.2, 0], [0.2, 0.1]], "0,0,0.2,0,0.2,0.1"]}
  on: {source: clips/a.mp4, priority: 5}
""",
        {"GATE": "s3cret"},
        "mqtt: 12345\n",
    )
    configuration, (gate, desk, on) = plan.configuration, plan.cameras
    assert plan.warnings == ()
    assert configuration.bundle == str(tmp_path / "bundle")
    assert configuration.mqtt is not None
    assert (configuration.mqtt.port, configuration.mqtt.password) == (1884, "12345")
    assert configuration.output is not None
    assert configuration.output.path == str(tmp_path / "records.jsonl")
    assert [hook.tls_ca for hook in configuration.webhook] == [None, str(Path.home() / "hooks.pem")]
    assert configuration.frigate is not None
    assert configuration.frigate.tls_ca == str(tmp_path / "frigate.pem")
    assert configuration.spool is not None
    assert configuration.spool.path == "/var/spool/hh"
    assert configuration.clips is not None
    assert configuration.clips.path == str(tmp_path / "kept")
    assert (configuration.clips.pre_roll, configuration.clips.post_roll, configuration.clips.max_mb) == (2, 5, 0.5)
    assert (gate.source.name, gate.source.target) == ("gate", "rtsp://hh:s3cret@10.0.0.7/s")
    assert gate.options.locator == "full"
    assert gate.schedule is not None
    assert str(gate.schedule.zone) == "Europe/Berlin"
    assert (desk.source.kind, desk.enabled, desk.options.locator) == ("device", False, "low_latency")
    assert desk.options.mask is not None
    assert len(desk.options.mask.polygons) == 2
    assert (on.source.name, on.source.target, on.options.priority) == ("on", str(tmp_path / "clips/a.mp4"), 5)


def test_what_a_cameras_own_alarm_leaves_out_is_as_at_the_top(tmp_path: Path) -> None:
    plan = read(
        tmp_path,
        """
version: 1
alarm: {budget_per_day: 2, cooldown: 60}
site: {path: learned}
cameras:
  gate: {source: "rtsp://10.0.0.7/s"}
  yard: {source: "rtsp://10.0.0.8/s", alarm: {threshold: 0.8, min_duration: 6.4}}
  dock: {source: "rtsp://10.0.0.9/s", alarm: {budget_per_day: 0.5, cooldown: 0}}
""",
    )
    assert [camera.alarm for camera in plan.cameras] == [
        AlarmWish(budget_per_day=2, cooldown_s=60),
        AlarmWish(threshold=0.8, min_duration_s=6.4, cooldown_s=60),
        AlarmWish(budget_per_day=0.5, cooldown_s=0),
    ]
    assert folder_of(plan.configuration) == tmp_path / "learned"


@pytest.mark.parametrize(
    ("parts", "folder"),
    [
        ("", None),
        ("alarm: {threshold: 0.8}\n", None),
        ("site: {}\n", "bundle.site"),
        ("feedback: {}\n", "bundle.site"),
        ("feedback: {path: marks}\n", "marks"),
        ("feedback: {path: marks}\nsite: {path: learned}\n", "learned"),
        ("alarm: {budget_per_day: 2}\n", "bundle.site"),
    ],
)
def test_something_is_learned_and_written_where_that_is_asked_for(
    tmp_path: Path, parts: str, folder: str | None
) -> None:
    plan = read(tmp_path, f"version: 1\nbundle: bundle\n{parts}cameras: {{a: {{source: 1}}}}\n")
    assert learns(plan) == (folder is not None)
    if folder is not None:
        assert folder_of(plan.configuration) == tmp_path / folder


@pytest.mark.parametrize(
    ("alarm", "words"),
    [
        ("{threshold: 1.5}", "alarm.threshold: expected `float` <= 1.0"),
        ("{threshold: .nan}", "alarm.threshold"),
        ("{budget_per_day: 0}", "alarm.budget_per_day: expected `float` >= 0.05"),
        ("{threshold: 0.5, budget_per_day: 2}", "threshold and budget_per_day exclude each other"),
        ("{min_duration: -1}", "alarm.min_duration"),
        ("{cooldown: 100000}", "alarm.cooldown"),
        ("{treshold: 0.5}", "alarm.treshold: unknown; did you mean threshold?"),
    ],
)
def test_an_alarm_that_makes_no_sense_is_refused(tmp_path: Path, alarm: str, words: str) -> None:
    assert words in refused(tmp_path, f"version: 1\nalarm: {alarm}\ncameras: {{a: {{source: 1}}}}\n")
    found = refused(tmp_path, f"version: 1\ncameras: {{a: {{source: 1, alarm: {alarm}}}}}\n")
    assert words.removeprefix("alarm.") in found


def test_what_the_command_line_says_holds(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text("version: 1\nlocator: full\ncameras: {a: {source: 1}}\n")
    plan = read_plan(tmp_path / "cameras.yaml", {}, {"locator": "low_latency"})
    assert plan.configuration.locator == plan.cameras[0].options.locator == "low_latency"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${A}", "x"),
        ("p${A}q${A}", "pxqx"),
        ("${B:-y}", "y"),
        ("${A:-y}", "x"),
        ("${EMPTY:-y}", "y"),
        ("$${A}", "${A}"),
        ("a$b", "a$b"),
        ("${C}", "12"),
    ],
)
def test_variables(tmp_path: Path, written: str, meant: str) -> None:
    plan = read(tmp_path, HEAD + f"mqtt: {{host: '{written}'}}\n", {"A": "x", "C": "12", "EMPTY": ""})
    assert plan.configuration.mqtt is not None
    assert plan.configuration.mqtt.host == meant


def test_a_file_without_a_version_is_version_1_with_a_warning(tmp_path: Path) -> None:
    (warning,) = read(tmp_path, "cameras: {a: {source: 1}}\n").warnings
    assert "write `version: 1`" in warning


def test_an_older_file_is_turned_into_todays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one way: a step a version, in memory."""
    monkeypatch.setattr(config, "VERSION", 2)
    monkeypatch.setitem(config.UPGRADES, 1, lambda tree: {"cameras": tree.pop("kameras"), **tree})
    plan = read(tmp_path, "version: 1\nkameras: {a: {source: 1}}\n")
    assert [camera.source.name for camera in plan.cameras] == ["a"]
    (warning,) = plan.warnings
    assert "is of version 1, and read as 2" in warning


# ---- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cameras:\n  gate:\n    soruce: rtsp://h/s\n", "line 4: cameras.gate.soruce: unknown; did you mean source?"),
        ("bundel: x\n", "line 2: bundel: unknown; did you mean bundle?"),
        ("mqtt: {host: h, qqq: 1}\n", "line 2: mqtt.qqq: unknown; known are host, port"),
        ("webhook:\n- url: http://h\n  secrt: x\n", "line 4: webhook[0].secrt: unknown; did you mean secret?"),
        ("cameras:\n  a: {source: 1}\n  a: {source: 2}\n", "line 4: cameras.a is there twice"),
        ("cameras: {a: }\n", "line 2: cameras.a: needs a source"),
        ("cameras: {a: {enabled: true}}\n", "line 2: cameras.a.source: is missing"),
        ("cameras: {a b: {source: 1}}\n", "line 2: cameras.a b: a camera's name is"),
        ("cameras: [a]\n", "line 2: cameras: must be a mapping"),
        ("cameras: {a: {source: ''}}\n", "line 2: cameras.a.source: a source is empty"),
        ("cameras: {a: {source: ftp://h/x}}\n", "line 2: cameras.a.source: a=ftp://***: unknown kind"),
        ("cameras: {a: {source: 1, locator: fast}}\n", "line 2: cameras.a.locator: must be one of full, low_latency"),
        ("cameras: {a: {source: 1, mask: '0,0,1,1'}}\n", "line 2: cameras.a.mask: polygon 0 has 2 points"),
        ("cameras: {a: {source: 1, mask: [[0,0],[1,1]]}}\n", "line 2: cameras.a.mask[0][0]: expected `array`"),
        ("cameras: {a: {source: 1, schedule: noon}}\n", "line 2: cameras.a.schedule: 'noon': 'noon' is no day"),
        ("cameras: {a: {source: 1, priority: 1.5}}\n", "line 2: cameras.a.priority: expected `int`, got `float`"),
        ("threads: 0\n", "line 2: threads: expected `int` >= 1"),
        ("threads: .inf\n", "line 2: threads: expected `int`, got `str`"),
        ("reuse_unchanged: 1e400\n", "line 2: reuse_unchanged: the number is too large"),
        ("provider: abacus\n", "line 2: provider: unknown provider 'abacus'"),
        ("timezone: Europe/Berln\n", "line 2: timezone: no such time zone; did you mean Europe/Berlin?"),
        ("timezone: ../../etc/passwd\n", "line 2: timezone: no such time zone"),
        ("mqtt: {host: 1}\n", "line 2: mqtt.host: expected `str`, got `int`; write it in quotes"),
        ("mqtt: {host: h, password: p}\n", "line 2: mqtt: a password needs a user"),
        ("webhook: [{url: h, secret: x}]\n", "line 2: webhook[0]: url must be http://"),
        (
            "webhook: [{url: http://h, secret: x, kinds: [events]}]\n",
            "line 2: webhook[0].kinds[0]: must be one of camera, event",
        ),
        (
            "frigate: {url: http://h, cameras: {gat: x}}\ncameras: {gate: {source: 1}}\n",
            "line 2: frigate.cameras.gat:",
        ),
        (
            "frigate: {url: http://h, tls_insecure: true}\n",
            "line 2: frigate: tls_ca and tls_insecure need an https://",
        ),
        (
            "webhook: [{url: HTTPS://h, secret: x, tls_ca: a.pem, tls_insecure: true}]\n",
            "line 2: webhook[0]: tls_insecure takes any certificate; leave it or tls_ca out",
        ),
        (
            'webhook: [{url: https://h, secret: x, tls_ca: "a\\0"}]\n',
            "line 2: webhook[0].tls_ca: a path holds no zero",
        ),
        ("bundle: ${NOPE}\n", "line 2: the environment variable NOPE is not set"),
        ("bundle: ${NO PE}\n", "line 2: ${ begins a variable"),
        ("bundle: !secret x\n", "line 2: "),
        ("bundle: !!python/object:os.system x\n", "line 2: a tag that is not known"),
        ("a: &a [*a]\n", "line 2: nested too deeply"),
        ("bundle: 'x\n", "line 2, column 9: not YAML (found unexpected end of stream)"),
        ("\tbundle: x\n", "line 2, column 1: not YAML"),
        ("- a\n", "line 2, column 1: not YAML"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, HEAD + text).startswith(message)


@pytest.mark.parametrize(
    ("version", "words"),
    [("2", "newer than what this version of headhunt-edge reads (1); upgrade"), ("0", "from 1"), ("one", "from 1")],
)
def test_versions_that_are_not_read(tmp_path: Path, version: str, words: str) -> None:
    assert words in refused(tmp_path, f"version: {version}\n")


def test_aliases_of_aliases_end(tmp_path: Path) -> None:
    rows = ["x-0: &n0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"x-{n}: &n{n} [{', '.join([f'*n{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "nested too deeply" in refused(tmp_path, HEAD + "\n".join(rows))


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "{a: " * 3000])
def test_brackets_without_end(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "no", "cannot be read"), (Path("/dev/zero"), "plain")):
        with pytest.raises(UsageError, match=words):
            read_plan(path, {})
    (tmp_path / "large.yaml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UsageError, match="more than 1048576 bytes"):
        read_plan(tmp_path / "large.yaml", {})
    (tmp_path / "latin.yaml").write_bytes(b"# \xe4\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_plan(tmp_path / "latin.yaml", {})


# ---- passwords


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_secrets_that_others_can_read_are_refused(tmp_path: Path, mode: int) -> None:
    read(tmp_path, HEAD + "mqtt: {host: !secret h}\n", None, "h: broker\n")
    (tmp_path / "secrets.yaml").chmod(mode)
    with pytest.raises(UsageError, match=r"run chmod 600 .*secrets\.yaml"):
        read_plan(tmp_path / "cameras.yaml", {})


@pytest.mark.parametrize(
    ("text", "warns"),
    [
        ("cameras: {a: {source: rtsp://u:s3cret@h/s}}\n", True),
        ("cameras: {a: {source: 'rtsp://h/s?pwd=s3cret'}}\n", True),
        ("cameras: {a: {source: rtsp://h/s}}\n", False),
        ("cameras: {a: {source: loop:clip.mp4}}\n", False),
        ("cameras: {a: {source: 'rtsp://u:${PW}@h/s'}}\n", False),
        ("mqtt: {host: h, user: u, password: s3cret}\n", True),
        ("mqtt: {host: h, user: u, password: !secret pw}\n", False),
        ("webhook: [{url: http://h, secret: s3cret}]\n", True),
    ],
)
def test_a_password_in_plain_text_that_others_can_read_is_warned_of(tmp_path: Path, text: str, warns: bool) -> None:
    assert read(tmp_path, HEAD + text, {"PW": "s3cret"}, "pw: s3cret\n").warnings == ()
    (tmp_path / "cameras.yaml").chmod(0o644)
    warnings = read_plan(tmp_path / "cameras.yaml", {"PW": "s3cret"}).warnings
    assert [("chmod 600" in warning) for warning in warnings] == [True] * warns
    assert "s3cret" not in str(warnings)


def test_secrets_that_are_not_there(tmp_path: Path) -> None:
    assert "secrets.yaml: cannot be read" in refused(tmp_path, HEAD + "bundle: !secret a\n")
    message = refused(tmp_path, HEAD + "bundle: !secret gate_pasword\n", None, "gate_password: s3cret\n")
    assert message == "line 2: !secret gate_pasword: is not in secrets.yaml; did you mean gate_password?"
    for wrong in ("- a\n", "a: [1]\n", "a: 1\na: 2\n", "a: !x 1\n\t"):
        assert "s3cret" not in refused(tmp_path, HEAD + "bundle: !secret a\n", None, wrong)


# Places where a password may be put by mistake, too.
LEAKS = [
    "cameras: {{a: {{source: {0}}}}}\n",
    "cameras: {{a: {{source: 1, schedule: {0}}}}}\n",
    "cameras: {{a: {{source: 1, mask: {0}}}}}\n",
    "cameras: {{a: {{source: 1, locator: {0}}}}}\n",
    "provider: {0}\n",
    "timezone: {0}\n",
    "threads: {0}\n",
    "version: {0}\n",
    "webhook: [{{secret: x, url: {0}}}]\n",
    "webhook: [{{secret: x, url: http://h, kinds: [{0}]}}]\n",
    "mqtt: {{host: h, port: {0}}}\n",
    "mqtt: {{host: h, prefix: {0}}}\n",
    "encode: {0}\n",
]


@given(st.sampled_from(LEAKS), st.booleans(), st.text("abcXYZ019!@/:#%+=&?* ", min_size=3, max_size=20))
def test_no_error_shows_what_came_from_elsewhere(
    tmp_path_factory: pytest.TempPathFactory, place: str, by_secret: bool, password: str
) -> None:
    folder = tmp_path_factory.mktemp("leak")
    password = f"~{password}~"
    text = ("" if place.startswith("version") else HEAD) + place.format("!secret pw" if by_secret else "'${PW}'")
    said = []
    try:
        said += read(folder, text, {"PW": password}, f"pw: '{password}'\n").warnings
    except UsageError as error:
        said.append(str(error))
    assert password not in "".join(said)


@pytest.mark.parametrize(
    "password", ["*s3cret", "&s3cret x: y", "!s3cret", "@s3cret", "%s3cret", "{s3cret", "s3cret: a"]
)
def test_no_error_of_yaml_shows_a_password_that_should_be_in_quotes(tmp_path: Path, password: str) -> None:
    assert "s3cret" not in refused(tmp_path, HEAD + f"mqtt: \n  host: h\n  user: u\n  password: {password}\n")


def test_no_repr_shows_a_password(tmp_path: Path) -> None:
    plan = read(
        tmp_path,
        HEAD
        + """
mqtt: {host: h, user: u, password: s3cret}
webhook: [{url: "http://h/s3cret", secret: s3cret}]
frigate: {url: "http://u:s3cret@h", user: u, password: s3cret}
cameras: {a: {source: "rtsp://u:s3cret@h/s"}}
""",
    )
    assert "s3cret" not in repr(plan)
    assert "rtsp://***@h/s" in repr(plan)


# ---- the schema


def test_the_schema_in_the_documentation_is_the_one_that_is_enforced() -> None:
    committed = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert committed == json_schema(), (
        "python -c 'import json; from edge_runtime.watch.config_settings import json_schema; "
        f"print(json.dumps(json_schema(), indent=2))' > {SCHEMA}"
    )


# ---- trusted keys


def test_trusted_keys_are_lines_or_files_beside_the_configuration(tmp_path: Path) -> None:
    line = "0ab2711aa796c396 Rd4hKN08Ink4+yE/3kK1jyYepvq0JmWXSmf2y8+YnOU= vision team"
    plan = read(tmp_path, f"{HEAD}trusted_keys: [keys/b.pub, '{line}', /etc/b.pub]\n")
    assert plan.configuration.trusted_keys == [f"{tmp_path}/keys/b.pub", line, "/etc/b.pub"]
    assert read(tmp_path, HEAD).configuration.trusted_keys is None


def test_a_list_that_trusts_nobody_is_refused_rather_than_trusting_all(tmp_path: Path) -> None:
    assert refused(tmp_path, f"{HEAD}trusted_keys: []\n").startswith("line 2: trusted_keys: ")
    assert "trusted_keys" in refused(tmp_path, f"{HEAD}trusted_keys: key.pub\n")


def test_a_file_that_is_played_over_and_over_is_relative_to_the_configuration(tmp_path: Path) -> None:
    (camera,) = read(tmp_path, "version: 1\ncameras: {gate: {source: loop:clips/a.mp4}}\n").cameras
    assert (camera.source.kind, camera.source.target) == ("loop", str(tmp_path / "clips/a.mp4"))
    assert camera.source.shown == f"loop:{tmp_path / 'clips/a.mp4'}"
    assert camera.source.live


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{}", ("127.0.0.1", 8480)),
        ('{listen: "0.0.0.0:80"}', ("0.0.0.0", 80)),
        ('{listen: "[::1]:8480"}', ("::1", 8480)),
        ('{listen: "9000"}', ("127.0.0.1", 9000)),
        ('{listen: "nvr.local:0"}', ("nvr.local", 0)),
    ],
)
def test_where_the_page_is_served(tmp_path: Path, written: str, meant: tuple[str, int]) -> None:
    settings = read(tmp_path, f"http: {written}\ncameras: {{gate: {{source: rtsp://h/1}}}}\n").configuration.http
    assert settings is not None
    assert parse_listen(settings.listen) == meant


def test_certificates_of_the_page_lie_beside_the_configuration(tmp_path: Path) -> None:
    plan = read(
        tmp_path, "http: {tls_cert: cert.pem, tls_key: keys/key.pem}\ncameras: {gate: {source: rtsp://h/1}}\n"
    )
    assert plan.configuration.http is not None
    assert plan.configuration.http.tls_key == str(tmp_path / "keys/key.pem")


@pytest.mark.parametrize(
    "text",
    ["listen: 127.0.0.1", 'listen: "::1:80"', 'listen: ":80"', 'listen: "h:99999"', "tls_cert: a", "hosts: [a b]"],
)
def test_a_page_that_cannot_be_served_is_refused(tmp_path: Path, text: str) -> None:
    assert "http" in refused(tmp_path, f"version: 1\nhttp: {{{text}}}\ncameras: {{gate: {{source: rtsp://h/1}}}}\n")
