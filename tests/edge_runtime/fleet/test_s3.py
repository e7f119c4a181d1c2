"""Buckets: a real S3 server answers signed and unsigned requests, with ETags and parts of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bucket import signed_copy
from s3_server import s3_server

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import SourceUnavailable, UsageError
from edge_runtime.fleet import s3
from edge_runtime.fleet.address import Address
from edge_runtime.fleet.depot import Depot
from edge_runtime.fleet.fetch import Fetcher, Patience
from edge_runtime.fleet.pull import Wish, pull
from edge_runtime.fleet.rounds import rounds

BUILDER = PrivateKey.generate("builder")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


def upload(server: str, folder: Path, bucket: str, *, public: bool) -> None:
    boto3 = pytest.importorskip("boto3", reason="nothing uploads to a bucket: pip install boto3")
    client = boto3.client(
        "s3",
        endpoint_url=server,
        region_name="us-east-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=bucket)
    for path in folder.rglob("*"):
        if path.is_file():
            rights = {"ACL": "public-read"} if public else {}
            client.upload_file(str(path), bucket, f"gates/{path.relative_to(folder).as_posix()}", ExtraArgs=rights)


@pytest.mark.parametrize("rights", ["keys", "no_keys"])
def test_a_bundle_comes_from_a_bucket(
    server: str, bundle_dir: Path, tmp_path: Path, rights: str, request: pytest.FixtureRequest
) -> None:
    if rights == "keys":
        pytest.importorskip("botocore", reason="nothing signs requests: pip install botocore")
    request.getfixturevalue(rights)
    one = signed_copy(bundle_dir, tmp_path / "one", BUILDER)
    upload(server, one, rights.replace("_", "-"), public=rights == "no_keys")
    fetcher = Fetcher(Address.parse(f"s3://{rights.replace('_', '-')}/gates", server), Patience(waits_s=()))
    depot = Depot(tmp_path / "edge" / "bundle", [BUILDER.public])
    wish = Wish(trusted=[BUILDER.public])
    # What broke off in the middle of the weights.
    entry = next(one for one in Bundle.open(one).manifest.files if one.path == "language.onnx.data")
    depot.part(entry).write_bytes((one / entry.path).read_bytes()[: entry.bytes // 2])
    came = pull(fetcher, depot, wish, lambda _: None)
    assert Bundle.open(depot.link, [BUILDER.public]).manifest.bundle_id == came.bundle_id
    fetcher.traffic.requests = 0
    assert not pull(fetcher, depot, wish, lambda _: None).changed
    assert fetcher.traffic.requests == 1


def test_a_bucket_that_is_not_public_says_what_is_missing(
    server: str, bundle_dir: Path, tmp_path: Path, no_keys: None
) -> None:
    upload(server, bundle_dir, "private", public=False)
    fetcher = Fetcher(Address.parse("s3://private/gates", server), Patience(waits_s=()))
    depot = Depot(tmp_path / "bundle", [BUILDER.public])
    with pytest.raises(SourceUnavailable, match=r"answers 403; .*headhunt-edge\[s3\]"):
        pull(fetcher, depot, Wish(trusted=[BUILDER.public]), lambda _: None)


def test_requests_are_signed_as_amazon_wants_it_and_for_the_bucket_alone(keys: None) -> None:
    pytest.importorskip("botocore", reason="nothing signs requests: pip install botocore")
    address = Address.parse("s3://models/gates", "http://127.0.0.1:1").file("vision.onnx", "12")
    sign = s3.signer(address)
    assert sign is not None
    headers = sign(address, {"range": "bytes=5-", "user-agent": "x"})
    authorization = headers["Authorization"]
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    assert "/eu-central-1/s3/aws4_request" in authorization
    assert headers["range"] == "bytes=5-"
    assert s3.signer(Address.parse("https://cdn.example.com/x")) is None


def test_keys_that_are_refused_once_do_not_end_an_endless_pull(
    server: str, bundle_dir: Path, tmp_path: Path, no_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key at the start; then one; then who gives them out is down; then all is well again."""
    pytest.importorskip("botocore", reason="nothing signs requests: pip install botocore")
    from botocore.credentials import Credentials
    from botocore.exceptions import ClientError, MetadataRetrievalError

    upload(server, signed_copy(bundle_dir, tmp_path / "one", BUILDER), "later", public=False)
    fetcher = Fetcher(Address.parse("s3://later/gates", server), Patience(waits_s=()))
    depot, wish = Depot(tmp_path / "edge" / "bundle", [BUILDER.public]), Wish(trusted=[BUILDER.public])
    told: list[str] = []

    def once() -> None:
        fetcher.begin()
        told.append(str(pull(fetcher, depot, wish, lambda _: None)))

    class Enough(Exception):
        """Ends what never ends."""

    def refusing(error: Exception) -> Callable[[object], None]:
        def frozen(_: object) -> None:
            raise error

        return frozen

    down = MetadataRetrievalError(error_msg="the service does not answer")
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AssumeRole")
    still_old = RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired.")
    real, waits = Credentials.get_frozen_credentials, 0

    def wait(_: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            assert not told, "it is not public"
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        if waits == 3:
            assert len(told) == 1
        if 3 <= waits < 6:
            error = (down, denied, still_old)[waits - 3]
            monkeypatch.setattr(Credentials, "get_frozen_credentials", refusing(error))
        if waits == 6:
            assert len(told) == 1
            monkeypatch.setattr(Credentials, "get_frozen_credentials", real)
        if waits == 7:
            raise Enough

    with pytest.raises(Enough):
        rounds(once, 60, wait=wait)
    assert ["is in use" in one for one in told] == [True, True]


def test_a_mistake_in_the_configuration_is_told_at_the_start(
    no_keys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("botocore", reason="nothing signs requests: pip install botocore")
    address = Address.parse("s3://models/gates", "http://127.0.0.1:1")
    fetcher = Fetcher(address, Patience(waits_s=()))
    fetcher.begin()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UsageError, match="nobody"):
        Fetcher(address)
    # Later it is somebody who is just writing the file.
    with pytest.raises(SourceUnavailable, match="nobody"):
        fetcher.begin()
    # A service that is down is no mistake: it is asked again.
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/keys")
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.RETRY_ATTEMPTS", 1)
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    early = Fetcher(address, Patience(waits_s=()))
    with pytest.raises(SourceUnavailable, match="no key can be had now"):
        early.begin()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    early.begin()
    assert early._sign is not None


def test_without_botocore_a_bucket_has_to_be_public(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "find_spec", lambda _: None)
    assert s3.signer(Address.parse("s3://models/gates")) is None
