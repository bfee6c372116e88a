"""The store that fails: each fault leaves what it says, and the engine gets over all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, Runtime, step, workflow
from perdure.core.errors import (
    InputError,
    OutcomeUnknownError,
    PerdureError,
    StoreBusyError,
    StoreError,
    StoreWriteError,
)
from perdure.core.events import Head
from perdure.journal.chain import genesis
from perdure.store.memory import MemoryStore
from perdure.store.port import Append, NewRun, Store
from perdure.store.sqlite import SQLiteStore
from perdure.testing import FaultyStore, random_faults
from perdure.testing.faults import FAULTS, Fault
from perdure.testing.simulation import Simulation, simulate
from perdure.testing.store_contract import StoreContract, draft


def creation(run_id: str) -> Append:
    start = draft("run.started", b"{}")
    return Append(run_id, [start], Head(0, genesis(run_id)), create=NewRun("shop", "1", 1000))


async def append(store: Store, run_id: str) -> PerdureError | None:
    try:
        answer = store.append([creation(run_id)])
        if not isinstance(answer, list):
            await answer
    except PerdureError as error:
        return error
    return None


async def made(inner: str, path: Path) -> Store:
    store: Store = MemoryStore() if inner == "memory" else SQLiteStore(path, durability="process")
    await store.open()
    return store


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("inner", ["memory", "sqlite"])
@pytest.mark.parametrize(
    ("fault", "error", "written"),
    [
        ("before", StoreWriteError, False),
        ("lost", OutcomeUnknownError, True),
        ("torn", OutcomeUnknownError, False),
        ("busy", StoreBusyError, False),
        ("full", StoreWriteError, False),
    ],
)
async def test_a_fault_leaves_what_it_says(
    fault: Fault, error: type[PerdureError], written: bool, inner: str, later: bool, store_path: Path
) -> None:
    store = FaultyStore(await made(inner, store_path), {2: fault}, later=later)
    assert await append(store, "first") is None
    assert isinstance(await append(store, "second"), error)
    assert (await store.get_run("second") is not None) == written
    assert store.injected == [(2, fault)]
    await store.close()


async def test_a_full_disk_stays_full_until_there_is_room() -> None:
    store = FaultyStore(await made("memory", Path()), {1: "full"})
    assert [type(await append(store, f"r{n}")) for n in range(5)] == [StoreWriteError] * 3 + [type(None)] * 2
    store.fill(writes=1)
    assert isinstance(await append(store, "again"), StoreWriteError)
    assert await append(store, "again") is None


async def test_only_what_counts_as_a_write_fails() -> None:
    inner = await made("memory", Path())
    always: dict[int, Fault] = {1: "before", 2: "before"}
    store = FaultyStore(inner, always)
    lease = await store.lease("w1", ["shop"])
    assert await store.claim(lease, ["shop"], 0) == []
    strict = FaultyStore(inner, always, writes=("claim", "lease"))
    with pytest.raises(StoreWriteError):
        await strict.lease("w2", ["shop"])
    with pytest.raises(StoreWriteError):
        await strict.claim(lease, ["shop"], 0)
    assert await append(strict, "r1") is None


def test_a_fault_that_does_not_exist_is_refused() -> None:
    plan: Any = {1: "melted"}
    with pytest.raises(InputError, match="melted"):
        FaultyStore(MemoryStore(), plan)


def test_random_faults_are_decided_by_the_seed() -> None:
    first, second, other = random_faults(1, rate=0.5), random_faults(1, rate=0.5), random_faults(2, rate=0.5)
    drawn = [first(n) for n in range(50)]
    assert drawn == [second(n) for n in range(50)]
    assert drawn != [other(n) for n in range(50)]
    assert set(drawn) == {None, *FAULTS}


class TestAFaultyStoreWithoutFaults(StoreContract):
    """Between the calls that fail it is the store within it."""

    async def make_store(self) -> Store:
        store = FaultyStore(MemoryStore(boot_clock=self.clock), {})
        await store.open()
        return store


# --- the engine over such a store -------------------------------------------------------------------------------------

CHARGED: list[str] = []
POSTED: list[int] = []


@step(kind="idempotent")
async def charge(number: int) -> int:
    CHARGED.append(f"charge {number}")
    await asyncio.sleep(0.1)
    return number


@step(kind="once", in_doubt="fail")
async def post(number: int) -> int:
    POSTED.append(number)
    await asyncio.sleep(0.1)
    return number


@workflow
async def part(run: Run, number: int) -> int:
    await run.sleep("1m")
    return await run.step(charge, number)


@workflow
async def whole(run: Run) -> list[Any]:
    run.state["begun"] = True
    charged = await run.map(charge, range(3))
    child = await run.spawn(part, 7)
    try:
        posted: Any = await run.step(post, 1)
    except Exception as error:
        posted = type(error).__name__
    answer = await run.ask("Go on?", timeout="1h", default="yes")
    return [charged, posted, answer, await child.result(), dict(run.state)]


def through_faults(seed: int, *, later: bool, claims: bool) -> tuple[list[Any], int]:
    """Run the workflow over a store of which one write in seven fails; its result, and how many failed."""
    CHARGED.clear()
    POSTED.clear()

    async def story(simulation: Simulation) -> tuple[list[Any], int]:
        stores: list[FaultyStore] = []

        def wrap(inner: Store) -> Store:
            writes: Any = ("append", "claim", "release") if claims else ("append",)
            stores.append(FaultyStore(inner, random_faults(seed, rate=0.15), writes=writes, later=later))
            return stores[0]

        async def life(runtime: Runtime) -> list[Any]:
            handle = None
            while handle is None:
                try:
                    handle = await runtime.start(whole, id="whole")
                except StoreError:
                    await asyncio.sleep(1)
            result: list[Any] = await handle.result()
            await handle.verify()
            return result

        return await simulation.process(workflows=[whole, part], wrap=wrap).run(life), len(stores[0].injected)

    return simulate(story, seed=seed)


@pytest.mark.parametrize("claims", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_a_run_gets_over_any_fault(later: bool, claims: bool) -> None:
    injected = 0
    for seed in range(40):
        result, faults = through_faults(seed, later=later, claims=claims)
        charged, posted, answer, from_child, state = result
        assert (charged, answer, from_child, state) == ([0, 1, 2], "yes", 7, {"begun": True}), f"seed {seed}"
        assert posted in (1, "StepFailed"), f"seed {seed}"
        assert len(POSTED) <= 1, f"seed {seed}"
        assert {*CHARGED} == {"charge 0", "charge 1", "charge 2", "charge 7"}, f"seed {seed}"
        injected += faults
    assert injected > 100
