"""Tokens: only hashes at rest, for the owner's eyes alone, and taken at once when the file changes."""

from __future__ import annotations

import hashlib
import json
import statistics
import threading
import time
from pathlib import Path

import pytest
from edge_command import hh_edge

from edge_runtime.errors import UsageError
from edge_runtime.server import sessions
from edge_runtime.server.sessions import LASTS_S, Sessions
from edge_runtime.server.tokens import MOST, Tokens, add_token, read_tokens, remove_token


def test_a_token_is_long_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = add_token(path, "act", "phone")
    assert token.startswith("hh_")
    assert len(token) >= 3 + 43
    assert token not in path.read_text()
    assert token[3:] not in path.read_text()
    (kept,) = read_tokens(path)
    assert kept.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*"))


def test_changes_of_the_file_are_taken_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokens = Tokens(path)
    assert len(tokens) == 0
    one, other = add_token(path, "read", None), add_token(path, "act", None)
    bearer, acting = tokens.bearer(one), tokens.bearer(other)
    assert bearer is not None
    assert acting is not None
    assert (bearer.name, bearer.role, acting.role) == ("read-1", "read", "act")
    remove_token(path, "read-1")
    assert tokens.bearer(one) is None
    assert not tokens.holds(bearer)
    assert tokens.holds(acting)
    # Another token of the same name is another one.
    add_token(path, "read", "read-1")
    assert not tokens.holds(bearer)


@pytest.mark.parametrize("wrong", ["", "hh_", "hh_ä", "\udcff", "x" * 10_000])
def test_what_is_no_token_lets_nobody_in(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "tokens.json"
    token = add_token(path, "act", None)
    tokens = Tokens(path)
    assert tokens.bearer(wrong) is None
    assert tokens.bearer(token + wrong) is None or not wrong
    assert tokens.bearer(token[:-1]) is None


def test_a_wrong_token_costs_less_than_a_millisecond_with_a_full_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    for _ in range(3):
        add_token(path, "act", None)
    document = json.loads(path.read_text())
    document["tokens"] += [document["tokens"][0] | {"name": f"n{number}"} for number in range(MOST - 3)]
    path.write_text(json.dumps(document))
    tokens = Tokens(path)
    assert len(tokens) == MOST
    spent: list[float] = []
    for number in range(200):
        start = time.perf_counter()
        assert tokens.bearer(f"hh_{number}") is None
        spent.append(time.perf_counter() - start)
    assert statistics.median(spent) < 1e-3
    with pytest.raises(UsageError, match="hh-edge token remove"):
        add_token(path, "act", None)


def test_a_file_that_others_can_read_or_that_is_something_else_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = add_token(path, "act", None)
    told: list[str] = []
    tokens = Tokens(path, told.append)
    assert tokens.bearer(token) is not None
    path.chmod(0o644)
    path.write_text(path.read_text() + " ")
    assert tokens.bearer(token) is None
    path.chmod(0o600)
    path.write_text("{}")
    assert tokens.bearer(token) is None
    assert [text.split(";")[-1].strip() for text in told] == ["nobody is let in by a token"] * 2
    assert "chmod 600" in told[0]


def test_sessions_outlive_a_restart_and_end_with_their_token(tmp_path: Path) -> None:
    path, kept, now = tmp_path / "tokens.json", tmp_path / "sessions.json", [1e9]
    tokens = Tokens(path)
    bearer = tokens.bearer(add_token(path, "act", "phone"))
    assert bearer is not None
    cookie = Sessions(kept, tokens, lambda: now[0]).open(bearer)
    assert cookie not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    again = Sessions(kept, tokens, lambda: now[0])
    assert again.bearer(cookie) == bearer
    assert again.bearer("other") is None
    now[0] += LASTS_S + 1
    assert again.bearer(cookie) is None
    now[0] = 1e9
    remove_token(path, "phone")
    assert again.bearer(cookie) is None


def test_who_shows_a_cookie_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    bearer = tokens.bearer(add_token(tmp_path / "tokens.json", "act", "phone"))
    assert bearer is not None
    opened = Sessions(tmp_path / "sessions.json", tokens)
    cookie = opened.open(bearer)
    writing, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        writing.set()
        assert go_on.wait(60)

    monkeypatch.setattr(sessions, "write_private", slow)
    second = threading.Thread(target=opened.open, args=(bearer,))
    second.start()
    assert writing.wait(60)
    assert opened.bearer(cookie) == bearer
    go_on.set()
    second.join(60)
    assert not second.is_alive()


def test_the_command_makes_lists_and_removes(state_folder: Path) -> None:
    made = hh_edge("token", "add", "--role", "read", "--name", "kitchen")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("hh_")
    listed = hh_edge("token", "list", "--json")
    (token,) = json.loads(listed.stdout)["tokens"]
    assert (token["name"], token["role"]) == ("kitchen", "read")
    assert made.stdout.strip() not in (state_folder / "tokens.json").read_text()
    twice = hh_edge("token", "add", "--role", "read", "--name", "kitchen")
    assert twice.returncode == 2
    assert "choose another name" in twice.stderr
    assert hh_edge("token", "remove", "kitchen").returncode == 0
    gone = hh_edge("token", "remove", "kitchen")
    assert (gone.returncode, len(gone.stderr.splitlines())) == (2, 1)
