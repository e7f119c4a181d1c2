"""Signs requests to buckets, with botocore where it is installed. Public buckets need neither it nor a key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from edge_runtime.errors import SourceUnavailable, UsageError, one_line
from edge_runtime.fleet.address import Address

log = logging.getLogger(__name__)

#: Gives the headers that a GET of an address needs, from those that it has.
Sign = Callable[[Address, Mapping[str, str]], dict[str, str]]

#: How a bucket that is not public is reached.
ADVICE = (
    'for a bucket that is not public run: pip install "headhunt-edge[s3]", and give it a key as AWS tools take it'
)


def signer(address: Address) -> Sign | None:
    """What signs requests to a bucket; None where there is nothing to sign with: then it has to be public.

    Keys are those of every AWS tool: the environment, `~/.aws`, or the role of the machine.

    Raises:
        UsageError: Keys are configured in a way that cannot be used.
        SourceUnavailable: Whoever gives out keys does not do so now.
    """
    if not address.region or find_spec("botocore") is None:
        return None
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError, CredentialRetrievalError, HTTPClientError
    from botocore.session import Session

    try:
        # Tokens of roles expire: this renews them by itself.
        found: Any = Session().get_credentials()
    except (CredentialRetrievalError, HTTPClientError) as error:
        raise _no_keys(error) from error
    except BotoCoreError as error:
        raise UsageError(f"s3: the configured keys cannot be used ({one_line(error)})") from error
    if found is None:
        log.info("%s: no key is configured; it is read as a public bucket", address.shown)
        return None

    def sign(asked: Address, headers: Mapping[str, str]) -> dict[str, str]:
        try:
            keys = found.get_frozen_credentials()
        except Exception as error:  # of services, of programs that give out keys, of files; they were good before
            raise _no_keys(error) from error
        request = AWSRequest(method="GET", url=asked.url, headers=dict(headers))
        S3SigV4Auth(keys, "s3", asked.region).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}

    return sign


def _no_keys(error: Exception) -> SourceUnavailable:
    return SourceUnavailable(f"s3: no key can be had now ({one_line(error)}); it is asked for again by the next pull")
