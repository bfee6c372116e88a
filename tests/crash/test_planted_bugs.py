"""The tests bite: each bug that is planted here is caught, and the same test passes where it is not planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.store.memory import MemoryStore
from perdure.store.port import Append, Store
from perdure.store.sqlite import SQLiteStore
from perdure.store.sqlite import append as sqlite_append
from perdure.testing import CrashMatrix, crash_matrix
from perdure.testing.simulation import MakeStore, memory
from perdure.testing.store_contract import StoreContract
from tests.unit.testing.test_simulation import standing_still

HERE = Path(__file__).parent


def shop(plant: str | None, place: Path, **options: Any) -> CrashMatrix:
    """The crash matrix of the shop, with a bug or without."""
    return crash_matrix(
        f"{HERE / 'planted.py'}:shop",
        order="a kettle",
        setup=None if plant is None else f"{HERE / 'planted.py'}:{plant}",
        directory=place,
        **options,
    )


def told_of(matrix: CrashMatrix) -> str:
    """All that a matrix complains of."""
    found = [problem for result in matrix.failures for problem in result.problems]
    return "\n".join([*matrix.reference_problems, *found])


def test_the_shop_without_a_bug(tmp_path: Path) -> None:
    shop(None, tmp_path / "remains").assert_ok()


def test_an_acknowledgement_before_the_commit_is_caught(tmp_path: Path) -> None:
    complaints = told_of(shop("acknowledge_before_commit", tmp_path / "remains"))
    assert "charge in 0/main#1 of run crash-matrix began without a durable intent" in complaints


def test_a_skipped_intent_is_caught(tmp_path: Path) -> None:
    complaints = told_of(shop("skip_the_intent", tmp_path / "remains"))
    assert "ship in 0/main#1 of run crash-matrix began without a durable intent" in complaints
    assert "ship in 0/main#1 of run crash-matrix is a once step and was called 2 times" in complaints


def test_steps_that_are_numbered_by_position_are_caught(tmp_path: Path) -> None:
    later = f"{HERE / 'planted_later.py'}:shop"
    shop(None, tmp_path / "sound", resume_with=later).assert_ok()
    complaints = told_of(shop("number_steps_by_position", tmp_path / "planted", resume_with=later))
    assert "the run ended paused 'drift'" in complaints


def test_a_state_write_that_is_executed_twice_is_caught(tmp_path: Path) -> None:
    complaints = told_of(shop("write_state_again_when_executed_again", tmp_path / "remains"))
    assert "state.written of state.order in 0/main#1 was written twice" in complaints


def test_a_once_step_that_is_tried_again_after_a_timeout_is_caught(tmp_path: Path) -> None:
    bell: dict[str, Any] = {"respond": f"{HERE / 'planted.py'}:it_rang", "patience": "200ms"}
    crash_matrix(f"{HERE / 'planted.py'}:bell", directory=tmp_path / "sound", **bell).assert_ok()
    matrix = crash_matrix(
        f"{HERE / 'planted.py'}:bell",
        setup=f"{HERE / 'planted.py'}:retry_once_after_a_timeout",
        directory=tmp_path / "planted",
        **bell,
    )
    assert not matrix.ok
    assert any("'rung' happened 2 times" in problem for problem in matrix.reference_problems)
    assert any("is a once step and was called 2 times" in problem for problem in matrix.reference_problems)


# --- the epoch check --------------------------------------------------------------------------------------------------


class UncheckedMemoryStore(MemoryStore):
    """A store that lets anybody append who names an epoch."""

    def _refusal(self, append: Append) -> Any:
        run = self._runs.get(append.run_id)
        if run is not None and append.epoch is not None:
            append.owner, append.epoch = run.row.owner, run.row.epoch
        return super()._refusal(append)


def broken_rules(make_store: Callable[[StoreContract], Store]) -> set[str]:
    """The rules of the contract that a store breaks."""

    class Contract(StoreContract):
        async def make_store(self) -> Store:
            store = make_store(self)
            await store.open()
            return store

    broken = set()
    for name in dir(Contract):
        if name.startswith("test_") and ("epoch" in name or "fence" in name or "zombie" in name or "owner" in name):
            try:
                getattr(Contract(), name)()
            except AssertionError:
                broken.add(name)
    return broken


def test_a_dropped_epoch_check_is_caught_in_memory() -> None:
    assert broken_rules(lambda rules: MemoryStore(boot_clock=rules.clock)) == set()
    assert broken_rules(lambda rules: UncheckedMemoryStore(boot_clock=rules.clock)) != set()


def test_a_dropped_epoch_check_is_caught_when_a_process_stands_still() -> None:
    def facts(store: MakeStore) -> set[int]:
        return {standing_still(seed, store=store)[1]["step.completed"] for seed in range(20)}

    assert facts(memory) == {2}
    assert facts(lambda clock: UncheckedMemoryStore(boot_clock=clock)) > {2}


def test_a_dropped_epoch_check_is_caught_on_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = iter(range(10_000))

    def make(rules: StoreContract) -> Store:
        return SQLiteStore(tmp_path / f"{next(count)}.db", durability="process", boot_clock=rules.clock)

    assert broken_rules(make) == set()
    unchecked = (
        "INSERT INTO events (run, seq, header, salt, payload) SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?6 = ?6 AND ?7 = ?7"
    )
    monkeypatch.setattr(sqlite_append, "_GUARDED", unchecked)
    assert broken_rules(make) != set()
