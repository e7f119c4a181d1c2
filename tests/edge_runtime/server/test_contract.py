"""The OpenAPI document says what the API does: the committed one is today's, and schemathesis finds no difference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from served import Served, served

from benchmarks.api.fuzz import not_asked_of
from edge_runtime.server.app import OPERATIONS
from edge_runtime.server.openapi import document, openapi

DOCUMENT = Path(__file__).parents[3] / "docs/openapi.json"
EXAMPLES = 8


def test_the_committed_document_is_todays() -> None:
    assert DOCUMENT.read_bytes() == document(OPERATIONS), (
        "docs/openapi.json is not what the code says; run: python -m edge_runtime.server.openapi > docs/openapi.json"
    )


def test_the_document_is_served(server: Served) -> None:
    assert server.get("/api/openapi.json").json == json.loads(DOCUMENT.read_bytes())


def test_every_operation_has_its_own_name_and_every_change_needs_act() -> None:
    names = [
        operation["operationId"] for path in openapi(OPERATIONS)["paths"].values() for operation in path.values()
    ]
    assert len(names) == len(set(names)) == len(OPERATIONS)
    for operation in OPERATIONS:
        if operation.path == "/api/session":
            continue
        assert (operation.role == "act") == (operation.method != "GET"), operation.path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("served")
        patch.setenv("STATE_DIRECTORY", str(folder / "state"))
        with served(folder, token="act") as server:
            # Not the token itself: after ten wrong ones from here none is looked at.
            server.cookie = server.sign_in()
            yield server


@pytest.fixture(scope="module")
def guarded_too(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Another one: who is signed out there is so for the tests after it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("served")
        patch.setenv("STATE_DIRECTORY", str(folder / "state"))
        with served(folder, token="act") as server:
            server.cookie = server.sign_in()
            yield server


every = schemathesis.openapi.from_dict(openapi(OPERATIONS)).exclude(path=["/api/live"])
whole = every.exclude(path=["/api/session"])


few = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@whole.parametrize()
@few
def test_answers_are_as_the_document_says(case: schemathesis.Case, running: Served) -> None:
    ask(case, running)


@whole.include(path_regex="{").exclude(method="DELETE").parametrize()
@few
def test_answers_about_what_is_there_are_so_too(case: schemathesis.Case, running: Served) -> None:
    there = {"name": "gate", "id": running.event, "mark": 1}
    case.path_parameters = {name: there[name] for name in case.path_parameters}
    ask(case, running)


@every.include(path="/api/session").parametrize()
@few
def test_sessions_are_as_the_document_says(case: schemathesis.Case, guarded_too: Served) -> None:
    ask(case, guarded_too)


def ask(case: schemathesis.Case, running: Served) -> None:
    answer = case.call(base_url=running.url, headers={"Cookie": running.cookie}, timeout=60)
    case.validate_response(answer, excluded_checks=not_asked_of(case.operation.label, answer.status_code))
