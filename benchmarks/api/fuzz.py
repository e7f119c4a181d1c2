"""Ask the API whatever its document allows and forbids, and compare every answer with the document.

    python -m benchmarks.api.fuzz --examples 300 > benchmarks/api/fuzz.txt

A real server on a real socket, over a made-up site: state, history, supervisor, files, tokens and sessions are those
of a run, alarms, marks and pictures stand-ins (tests/support/served.py). Every operation is asked by schemathesis,
with requests that keep to the document and such that do not: 0 server errors, statuses, headers and bodies as the
document says. Exits with 1 otherwise. schemathesis has to be installed.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
from hypothesis import HealthCheck, Phase, given, settings

ROOT = Path(__file__).parent.parent.parent
# Their rules hold between fields, or say what a source, a mask or a cursor is: no schema does.
_BETWEEN_FIELDS = (
    "POST /api/feedback/missed",
    "POST /api/forget",
    "POST /api/cameras",
    "GET /api/events",
    "GET /api/cameras/{name}/scores",
    "PUT /api/cameras/{name}/alarm",
)


def not_asked_of(operation: str, status: int) -> list[Any]:
    """Give the checks of schemathesis that an answer need not pass.

    Args:
        operation: Method and path.
        status: Of the answer.
    """
    from schemathesis import checks

    loose: list[Any] = []
    if operation in _BETWEEN_FIELDS:
        loose.append(checks.positive_data_acceptance)
    if status == 413:
        # Refused for its size, before it is looked at.
        loose.append(checks.negative_data_rejection)
    if status == 503:
        # No fault: there is no picture of a camera that was paused before. The document has to name it.
        loose.append(checks.not_a_server_error)
    return loose


def _is_session(operation: Any) -> bool:
    return bool(operation.path == "/api/session")


@click.command()
@click.option("--examples", default=300, show_default=True, help="Of each operation, kept to and not.")
@click.option("--seed", default=0, show_default=True)
def main(examples: int, seed: int) -> None:
    """See the module."""
    import hypothesis
    import schemathesis

    sys.path[:0] = [str(ROOT / "tests" / "support")]
    from served import served

    from edge_runtime.server.app import OPERATIONS
    from edge_runtime.server.openapi import openapi

    # Told at every added camera; a fault would be an error.
    logging.getLogger("edge_runtime").setLevel(logging.ERROR)
    schema = schemathesis.openapi.from_dict(openapi(OPERATIONS)).exclude(path=["/api/live"])
    statuses: Counter[int] = Counter()
    failures: list[str] = []
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STATE_DIRECTORY"] = f"{folder}/state"
        with served(Path(folder), token="act") as server:
            there = {"name": "gate", "id": server.event, "mark": 1}
            # A cookie: after ten wrong tokens of this campaign none of this address is looked at.
            headers = {"Cookie": server.sign_in()}

            def ask(case: schemathesis.Case, real: bool) -> None:
                if real:
                    case.path_parameters = {name: there[name] for name in case.path_parameters}
                reply = case.call(base_url=server.url, headers=headers, timeout=60)
                statuses[reply.status_code] += 1
                case.validate_response(reply, excluded_checks=not_asked_of(case.operation.label, reply.status_code))

            def campaign(operation: Any, mode: schemathesis.GenerationMode, real: bool) -> None:
                @hypothesis.seed(seed)
                @settings(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    phases=[Phase.explicit, Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def asked(case: schemathesis.Case) -> None:
                    ask(case, real)

                try:
                    asked()
                except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  counted
                    failures.append(f"{operation.label}: {error}")

            # Signing out, and wrong tokens, last: everything after that would be 401 and 429.
            operations = sorted((found.ok() for found in schema.get_all_operations()), key=_is_session)
            for operation in operations:
                before = statuses.total()
                known = "{" in operation.path and operation.method != "delete"
                for mode in schemathesis.GenerationMode:
                    for real in (False, True) if known else (False,):
                        if mode is schemathesis.GenerationMode.POSITIVE or operation.body or operation.query:
                            campaign(operation, mode, real)
                print(f"{operation.label:<42} {statuses.total() - before:>6} requests", flush=True)
            healthy = server.get("/healthz", token=None).status == 200
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    errors = sum(count for status, count in statuses.items() if status >= 500 and status != 503)
    print(f"\n{statuses.total()} requests in {time.monotonic() - begun_s:.0f} s: {counts}")
    print(f"{errors} server errors, {len(failures)} differences from the document")
    for failure in failures:
        print(failure)
    sys.exit(1 if failures or errors or not healthy else 0)


if __name__ == "__main__":
    main()
