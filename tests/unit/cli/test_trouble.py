"""When the store fails, it is said once; and once when it works again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.cli import trouble as trouble_module
from perdure.cli.output import Output
from perdure.cli.trouble import QUIET_S, Trouble
from perdure.core.errors import StoreCorruptError, StoreError, StoreReadError, StoreWriteError
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SQLiteStore


@pytest.fixture
def fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[StoreError | None, float], Trouble]:
    """Lets a store fail, or not, at an instant in seconds, and looks."""
    failures: list[StoreError] = []
    now_s = [0.0]
    monkeypatch.setattr(SQLiteStore, "failures", property(lambda store: len(failures)))
    monkeypatch.setattr(SQLiteStore, "failure", property(lambda store: failures[-1] if failures else None))
    monkeypatch.setattr(trouble_module.time, "monotonic", lambda: now_s[0])
    trouble = Trouble(SQLiteStore(tmp_path / "runs.db"), Output(quiet=True))

    def call(error: StoreError | None, at_s: float) -> Trouble:
        now_s[0] = at_s
        if error is not None:
            failures.append(error)
        trouble.look()
        return trouble

    return call


def test_it_is_said_once_however_often_a_write_fails(
    fail: Callable[[StoreError | None, float], Trouble], capsys: pytest.CaptureFixture[str]
) -> None:
    fail(None, 0)
    assert capsys.readouterr().err == ""
    fail(StoreWriteError("disk full"), 1)
    said = capsys.readouterr().err
    assert said.startswith("the store cannot be written: disk full\n")
    assert "it is tried again, at least every 5 s; what is recorded is not lost" in said
    for at_s in (2, 6, 6 + QUIET_S - 1):
        fail(StoreWriteError("disk full"), at_s)
    assert capsys.readouterr().err == ""


def test_the_end_of_the_trouble_is_said_once_and_new_trouble_anew(
    fail: Callable[[StoreError | None, float], Trouble], capsys: pytest.CaptureFixture[str]
) -> None:
    fail(StoreReadError("no answer"), 0)
    assert capsys.readouterr().err.startswith("the store cannot be read: no answer\n")
    for at_s in (QUIET_S - 1, QUIET_S + 1, QUIET_S + 2):
        fail(None, at_s)
    assert capsys.readouterr().err == "the store works again\n"
    fail(StoreWriteError("disk full"), 100)
    assert "cannot be written" in capsys.readouterr().err


def test_damage_is_kept(fail: Callable[[StoreError | None, float], Trouble]) -> None:
    assert fail(StoreWriteError("disk full"), 0).damage is None
    assert fail(StoreCorruptError("a page"), 1).damage is not None
    assert fail(StoreWriteError("disk full"), 2).damage is not None


def test_a_store_that_cannot_fail_is_not_asked() -> None:
    trouble = Trouble(MemoryStore(), Output())
    trouble.look()
    assert trouble.damage is None
