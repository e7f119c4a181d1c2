"""What cameras.yaml may hold, as types. `docs/cameras.schema.json` is generated from here.

No repr shows a password, or an address that may hold one.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from edge_runtime.schema import schema_of

#: The version of the configuration that is written today.
VERSION = 1

#: Where the server listens by default.
LISTEN = "127.0.0.1:8480"

Positive = Annotated[float, Meta(gt=0, le=1e9)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
# As a float wherever it stands: of equal types the first one is what schemas show.
UpToADay = Annotated[float, Meta(ge=0, le=86_400.0)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Text = Annotated[str, Meta(min_length=1)]
Locator = Literal["full", "low_latency"]
RecordKind = Literal["run", "segment", "event", "gap", "camera"]
Point = tuple[float, float]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all parts of the configuration."""

    hidden: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (f"{name}={'***' if name in self.hidden and value else repr(value)}" for name, value in values)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> Any:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            yield name, "***" if name in self.hidden and value else value


class OutputSettings(Settings, frozen=True):
    """Where records go; as `--output`.

    Attributes:
        path: A file, or `-` for standard output.
        rotate_mb: Begin a new file when this one has so many megabytes.
        rotate_days: Begin a new file after so many days.
        keep: How many files of the past are kept.
    """

    path: Text = "-"
    rotate_mb: Positive | None = None
    rotate_days: Positive | None = None
    keep: Count | None = None


class MqttSettings(Settings, frozen=True):
    """A broker that takes records.

    Attributes:
        host: Its name or address.
        port: By default 1883, with `tls` 8883.
        user: Who logs in.
        password: With what.
        prefix: What topics begin with.
        client_id: What the broker knows this run by; by default one of its own.
        tls: Whether the connection is encrypted; the other keys of that kind imply it.
        tls_ca: A file with the authority that signed the broker's certificate; by default the system's.
        tls_cert: A file with this client's certificate.
        tls_key: A file with its key.
        tls_insecure: Whether a certificate of another host is taken.
        keepalive_s: Seconds without a word after which the connection counts as dead.
        discovery: Whether cameras appear in Home Assistant by themselves.
        discovery_prefix: The prefix that Home Assistant listens to.
        onvif: Whether events are published as ONVIF names them, too.
    """

    hidden = frozenset({"password"})
    host: Text
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    user: str | None = None
    password: str | None = None
    prefix: Annotated[str, Meta(pattern=r"^[^+#\x00]+$")] = "headhunt"
    client_id: Text | None = None
    tls: bool = False
    tls_ca: Text | None = None
    tls_cert: Text | None = None
    tls_key: Text | None = None
    tls_insecure: bool = False
    keepalive_s: Annotated[int, Meta(ge=1, le=65535)] = 30
    discovery: bool = True
    discovery_prefix: Annotated[str, Meta(pattern=r"^[^+#\x00]+$")] = "homeassistant"
    onvif: bool = False

    def __post_init__(self) -> None:
        if self.password is not None and self.user is None:
            raise ValueError("a password needs a user")
        if (self.tls_key is None) != (self.tls_cert is None):
            raise ValueError("tls_cert and tls_key go together")


class WebhookSettings(Settings, frozen=True):
    """A server that records are posted to.

    Attributes:
        url: http:// or https://; it may hold a token.
        secret: Signs each post, so that the server knows who sent it: `whsec_` and base64.
        kinds: Which records are posted.
        tls_ca: A file with the authority that signed the server's certificate, or with that certificate; by default
            the system's authorities.
        tls_insecure: Whether any certificate is taken: whoever sits in between reads along.
    """

    hidden = frozenset({"url", "secret"})
    url: Text
    secret: Text
    kinds: Annotated[list[RecordKind], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["event", "camera"]
    )
    tls_ca: Text | None = None
    tls_insecure: bool = False

    def __post_init__(self) -> None:
        _check_url(self.url)
        _check_tls(self)


class FrigateSettings(Settings, frozen=True):
    """A Frigate that gets events.

    Attributes:
        url: http:// or https://.
        user: Who logs in, where Frigate asks.
        password: With what.
        cameras: Frigate's name of each camera that is called otherwise there.
        label: What its events are called.
        pre_capture: Seconds of video before an event.
        tls_ca: A file with the authority that signed its certificate, or with that certificate: Frigate's own is
            taken with it. By default the system's authorities.
        tls_insecure: Whether any certificate is taken: whoever sits in between reads along.
    """

    hidden = frozenset({"url", "password"})
    url: Text
    user: str | None = None
    password: str | None = None
    cameras: dict[str, Text] = {}
    label: Text = "anomaly"
    pre_capture: Seconds = 5.0
    tls_ca: Text | None = None
    tls_insecure: bool = False

    def __post_init__(self) -> None:
        _check_url(self.url)
        _check_tls(self)
        if self.password is not None and self.user is None:
            raise ValueError("a password needs a user")


class SpoolSettings(Settings, frozen=True):
    """Where records wait for outputs that cannot take them now.

    Attributes:
        path: A file.
        max_mb: Megabytes that may wait; then the oldest are dropped.
        max_days: How long a record waits.
    """

    path: Text
    max_mb: Positive = 256.0
    max_days: Positive = 7.0


class ClipsSettings(Settings, frozen=True):
    """Where snapshots and clips of live cameras' events are kept.

    Attributes:
        path: A folder; one run has it for itself.
        snapshots: Whether pictures of events are kept.
        video: Whether clips of events are.
        pre_roll: Seconds of video before an event.
        post_roll: Seconds of video after it.
        max_s: Seconds of the longest clip.
        max_mb: Megabytes in the folder, at any moment; the oldest are deleted.
        max_days: How long a clip or snapshot is kept.
        buffer_mb: Megabytes of memory for the newest video of one camera.
    """

    path: Text
    snapshots: bool = True
    video: bool = True
    pre_roll: Seconds = 5.0
    post_roll: Seconds = 5.0
    max_s: Annotated[float, Meta(gt=0, le=3600)] = 120.0
    max_mb: Positive = 10_000.0
    max_days: Positive = 14.0
    buffer_mb: Annotated[float, Meta(ge=1, le=10_000)] = 32.0


class AlarmSettings(Settings, frozen=True):
    """What makes an event; what a camera's own `alarm` leaves out is as in the one at the top.

    Attributes:
        threshold: A smoothed score above it is anomalous, instead of above the locator's.
        budget_per_day: Instead of a threshold: so many events in 24 hours of watching. The locator's threshold holds
            until 10,000 segments were seen, and more for less than two a day.
        min_duration: Seconds that an event lasts before it is told.
        cooldown: What begins within so many seconds after an event's end is not told, and begins them anew.
    """

    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    budget_per_day: Annotated[float, Meta(ge=0.05, le=10_000)] | None = None
    min_duration: UpToADay | None = None
    cooldown: UpToADay | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and self.budget_per_day is not None:
            raise ValueError("threshold and budget_per_day exclude each other; leave one of them out")


class SiteSettings(Settings, frozen=True):
    """What is learned of live cameras: what is usual there, budgets, and the alarms that were set on the page.

    Attributes:
        path: A folder; by default that of `feedback`, or else the bundle's name with `.site`.
    """

    path: Text | None = None


class FeedbackSettings(Settings, frozen=True):
    """What is kept for operators to mark, and the scorers that learn from it.

    Attributes:
        path: A folder for all bundles; by default each bundle's name with `.site`.
        retention_days: How long features and events are kept. Marks stay until they are deleted.
        max_mb_a_day: Megabytes of features of one camera a day, at most.
    """

    path: Text | None = None
    retention_days: Positive = 7.0
    max_mb_a_day: Positive = 46.0


class CameraSettings(Settings, frozen=True):
    """One camera.

    Attributes:
        source: rtsp(s)://, http(s):// (MJPEG), a device's number, a file, or `loop:` and a file, which is played over
            and over.
        enabled: Whether it is watched at all.
        locator: As the one of the same name above, for this camera.
        priority: Which cameras are scored first when the machine falls behind: the higher.
        schedule: When it is watched: `mon-fri 22:00-06:00; sat-sun 00:00-24:00`, or a list of such.
        mask: What is blanked before the model sees it: polygons, each a list of points [x, y] or a text `x,y,x,y,…`,
            in fractions of the picture from its upper left corner.
        alarm: What makes an event at this camera.
        bundle: Instead of the one above, for a live camera. Bundles that `hh-offline recalibrate` made of one another
            share their graphs.
    """

    hidden = frozenset({"source"})
    source: str | int
    enabled: bool = True
    locator: Locator | None = None
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    schedule: str | list[str] | None = None
    mask: str | list[str | list[Point]] | None = None
    alarm: AlarmSettings | None = None
    bundle: Text | None = None


class HttpSettings(Settings, frozen=True):
    """The server of the page and its API.

    Attributes:
        listen: Address and port; another address than that of this computer alone needs a token.
        hosts: Further names by which browsers reach it.
        require_token: Whether a token is needed on this computer alone, too: behind a reverse proxy.
        tls_cert: A file with the server's certificate, and those between it and its authority.
        tls_key: A file with its key.
    """

    listen: Text = LISTEN
    hosts: list[Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:\[\]-]{1,253}$")]] = []
    require_token: bool = False
    tls_cert: Text | None = None
    tls_key: Text | None = None

    def __post_init__(self) -> None:
        parse_listen(self.listen)
        if (self.tls_key is None) != (self.tls_cert is None):
            raise ValueError("tls_cert and tls_key go together")


class Configuration(Settings, frozen=True):
    """A whole cameras.yaml. Relative paths are relative to its folder.

    Attributes:
        version: Of this format: 1.
        bundle: The folder that `hh-offline build` made.
        trusted_keys: Public keys, each a `.pub` file of `hh-offline keygen` or the line in it. Bundles that none of
            them has signed are refused; without this key every bundle that is whole is taken.
        provider: What runs the graphs: `auto`, `cpu`, `cuda`, `cuda:1`, …, or a server's address,
            `triton://host:8001`.
        threads: Processor threads for one segment.
        locator: `full` smooths over later segments too and answers later; `low_latency` answers at once.
        encode: `batch` runs the model at a segment's end, `eager` on each frame when it comes.
        stride: Begin a segment every so many frames.
        reuse_unchanged: Encode a frame only if it changed by more than so many grey levels.
        max_batch: How many segments are scored in one call, at most; by default 8 on a GPU and 1 elsewhere.
        max_wait_ms: How long a segment waits for others of its batch.
        timezone: Of all schedules, as `Europe/Berlin`; by default the system's.
        alarm: What makes an event.
        output: Where records go.
        mqtt: A broker that takes them.
        webhook: Servers that they are posted to.
        frigate: A Frigate that gets events.
        spool: Where records wait for outputs that are down.
        clips: Where snapshots and clips of events are kept.
        feedback: Keeps features, no pictures, so that false alarms and missed events can be marked; `{}` is enough.
        site: Learns what is usual at live cameras and tells when it changes; `{}` is enough. A budget and `feedback`
            bring it along.
        http: The operator's page, its API and metrics; `{}` is enough.
        cameras: The cameras by name: letters, digits, `_`, `.` and `-`.
    """

    version: Annotated[int, Meta(ge=1, le=VERSION)] = VERSION
    bundle: Text | None = None
    trusted_keys: Annotated[list[Text], Meta(min_length=1)] | None = None
    provider: Text = "auto"
    threads: Annotated[int, Meta(ge=1, le=4096)] | None = None
    locator: Locator = "full"
    encode: Literal["batch", "eager"] = "batch"
    stride: Count | None = None
    reuse_unchanged: Annotated[float, Meta(ge=0, le=255)] | None = None
    max_batch: Count | None = None
    max_wait_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    timezone: Text | None = None
    alarm: AlarmSettings | None = None
    output: OutputSettings | None = None
    mqtt: MqttSettings | None = None
    webhook: list[WebhookSettings] = []
    frigate: FrigateSettings | None = None
    spool: SpoolSettings | None = None
    clips: ClipsSettings | None = None
    feedback: FeedbackSettings | None = None
    site: SiteSettings | None = None
    http: HttpSettings | None = None
    cameras: dict[str, CameraSettings] = {}


def json_schema() -> dict[str, Any]:
    """The JSON schema of cameras.yaml; keys at its top that begin with `x-` are the operator's own."""
    schema = schema_of(Configuration, "HeadHunt-VAD cameras.yaml")
    schema["$defs"]["Configuration"]["patternProperties"] = {"^x-": {}}
    return schema


def parse_listen(text: str) -> tuple[str, int]:
    """An address and a port: `127.0.0.1:8480`, `[::1]:8480`, or a port alone, which is of this computer alone.

    Raises:
        ValueError: It is something else.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 65_536):
        raise ValueError("listen must be an address and a port, as in 127.0.0.1:8480")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets, as in [::1]:8480")
    if not host or not host.isprintable() or " " in host:
        raise ValueError("listen must be an address and a port, as in 127.0.0.1:8480; 0.0.0.0 is all addresses")
    return host, int(port)


def _check_url(url: str) -> None:
    """Refuse what is no address of a web server, without quoting it."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isprintable() or " " in url:
        raise ValueError("url must be http://host/path or https://host/path")


def _check_tls(settings: WebhookSettings | FrigateSettings) -> None:
    if (settings.tls_ca is not None or settings.tls_insecure) and urlsplit(settings.url).scheme != "https":
        raise ValueError("tls_ca and tls_insecure need an https:// url")
    if settings.tls_ca is not None and settings.tls_insecure:
        raise ValueError("tls_insecure takes any certificate; leave it or tls_ca out")
