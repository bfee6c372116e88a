"""`perdure keys`: keys are made and revoked beside a service that runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.process.commandline import LIMIT_S, CommandLine
from tests.process.serving import serving


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_keys_are_made_and_revoked_while_the_service_runs(perdure: CommandLine) -> None:
    with serving(perdure, "flows.py") as service:
        token = perdure("keys", "add", "ci", "--scope", "runs:read", "--expires", "30d").out.strip()
        assert service("GET", "/runs", token=token)[0] == 200
        assert service("POST", "/runs", {"workflow": "nap"}, token=token)[0] == 403
        perdure("keys", "revoke", "ci")
        assert service("GET", "/runs", token=token)[0] == 401
        assert service("GET", "/runs")[0] == 200
        rows = {row["name"]: row for row in perdure("keys", "list", "--json").lines}
        assert {name: row["status"] for name, row in rows.items()} == {"first": "good", "ci": "revoked"}
        assert all("hash" not in row for row in rows.values())
        perdure("keys", "revoke", "first")
        assert service("GET", "/runs")[0] == 401
        new = (perdure.folder / ".perdure/runs.db.server/token").read_text()
        assert service("GET", "/runs", token=new)[0] == 200


def test_an_expired_key_is_good_for_nothing(perdure: CommandLine) -> None:
    with serving(perdure) as service:
        made = perdure("keys", "add", "short", "--scope", "admin", "--expires", "500ms", "--json").json
        assert made["scopes"] == ["admin"]
        deadline_s = time.monotonic() + LIMIT_S
        while service("GET", "/runs", token=made["token"])[0] != 401:
            assert time.monotonic() < deadline_s
        assert time.time() * 1000 >= made["expires_ms"]
        assert "expired" in perdure("keys", "list").out


def test_a_token_is_shown_once_and_kept_nowhere(perdure: CommandLine) -> None:
    perdure("run", "flows.py:nap")
    token = perdure("keys", "add", "ci", "--scope", "runs:read").out.strip()
    assert token.startswith("pd_")
    shown = perdure("keys", "list").out + perdure("keys", "list", "--json").out
    assert token not in shown
    for path in perdure.folder.rglob("*"):
        assert path.is_dir() or token.encode() not in path.read_bytes(), path
    assert not (perdure.folder / ".perdure/runs.db.server/token").exists()  # the first start makes it


def test_a_key_has_a_rate_of_its_own(perdure: CommandLine) -> None:
    with serving(perdure, "--rate", "1000/s") as service:
        token = perdure("keys", "add", "slow", "--scope", "runs:read", "--rate", "2/h").out.strip()
        answers = [service("GET", "/runs", token=token)[0] for _ in range(3)]
        assert answers == [200, 200, 429]
        assert service("GET", "/runs")[0] == 200
