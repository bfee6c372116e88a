"""What `serve`, `dev` and `keys` refuse, before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.cli.application import invoke
from perdure.cli.hosted.development import folders_of
from perdure.server.admission.keys import KeyRing

Refusal = Callable[..., dict[str, str]]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Invokes a command in a folder of its own, and gives the error that it must end with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERDURE_STORE", raising=False)
    (tmp_path / "empty.py").touch()
    (tmp_path / "broken.dot").write_text("digraph {")
    (tmp_path / "text").write_text("this is no store " * 100)

    def invoked(*arguments: str) -> dict[str, str]:
        before = sorted(tmp_path.rglob("*"))
        assert invoke([*arguments, "--json"]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts] == before
        error: dict[str, str] = json.loads(printed.err)["error"]
        return error

    return invoked


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--host", "0.0.0.0"], "invalid_input", "other machines reach"),
        (["--host", "0.0.0.0", "--no-auth"], "invalid_input", "nobody is asked"),
        (["--host", "0.0.0.0", "--no-auth", "--expose"], "invalid_input", "nobody is asked"),
        (["--host", "198.51.100.7", "--expose"], "invalid_input", "cannot be listened on"),
        (["--host", "no such host", "--expose"], "invalid_input", "cannot be listened on"),
        (["nothing.py"], "definition_load", "nothing.py"),
        (["empty.py"], "definition_load", "empty.py"),
        (["broken.dot"], "parse_error", "expected the graph's name"),
        (["--pipelines", "nowhere"], "invalid_input", "is no directory"),
        (["--pipelines", "empty.py"], "invalid_input", "is no directory"),
        (["--allow-tool", "no-such-program"], "invalid_input", "no-such-program"),
        (["--allow-host", "http://x"], "invalid_input", "no name of a host"),
        (["--allow-host", "a:80"], "invalid_input", "no name of a host"),
        (["--allow-origin", "console.example"], "invalid_input", "is no origin"),
        (["--allow-origin", "https://console.example/path"], "invalid_input", "is no origin"),
        (["--rate", "10"], "invalid_input", "is no rate"),
        (["--durability", "none"], "invalid_input", "--durability"),
        (["--max-runs", "0"], "usage", "--max-runs"),
        (["--port", "70000"], "usage", "--port"),
        (["--store", "ftp://x"], "store_url", "ftp"),
        (["--store", "sqlite:///text"], "not_a_store", "text"),
        (["--fd", "99"], "invalid_input", "is no socket"),
    ],
)
def test_what_cannot_be_served_is_refused(refused: Refusal, arguments: list[str], code: str, message: str) -> None:
    port = [] if "--port" in arguments or "--fd" in arguments else ["--port", "0"]
    error = refused("serve", *arguments, *port)
    assert error["code"] == code
    assert message in error["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "memory://"], "what is in memory"),
        (["--host", "0.0.0.0"], "other machines reach"),
        (["--durability", "none"], "--durability"),
    ],
)
def test_what_cannot_be_developed_is_refused(refused: Refusal, arguments: list[str], message: str) -> None:
    assert message in refused("dev", *arguments, "--port", "0")["message"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["add", "ci", "--scope", "everything"], "invalid_input"),
        (["add", "ci"], "usage"),
        (["add", "c i", "--scope", "admin"], "invalid_id"),
        (["add", "first", "--scope", "admin"], "invalid_input"),
        (["add", "ci", "--scope", "admin", "--expires", "soon"], "invalid_duration"),
        (["add", "ci", "--scope", "admin", "--rate", "fast"], "invalid_input"),
        (["revoke", "nobody"], "not_found"),
        (["list", "--store", "memory://"], "invalid_input"),
        (["list", "--store", "sqlite:///none.db"], "store_not_found"),
        (["change"], "usage"),
        ([], "usage"),
    ],
)
def test_what_cannot_be_done_to_keys_is_refused(
    refused: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: str
) -> None:
    monkeypatch.setenv("PERDURE_STORE", "sqlite:///text")
    KeyRing.open(tmp_path / "text.server").add("ops", ["admin"])
    kept = (tmp_path / "text.server" / "keys.json").read_bytes()
    assert refused("keys", *arguments)["code"] == code
    assert (tmp_path / "text.server" / "keys.json").read_bytes() == kept


def test_the_folders_of_all_files_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert folders_of(("a.py", "sub/b.py:name", "c.dot")) == {tmp_path, tmp_path / "sub"}
