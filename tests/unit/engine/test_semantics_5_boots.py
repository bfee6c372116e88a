"""Rules of section 5: deadlines on one machine are of one boot; boot times of different boots are not compared."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, step, workflow
from tests.unit.engine.staging import Ledger, die, events_of, on_disk, opened, running

pytestmark = pytest.mark.time_limit(20)
UP_FOR_A_YEAR_MS = 365 * 86_400_000
JUST_STARTED_MS = 20_000


@pytest.mark.parametrize("same_boot", [False, True], ids=["another boot", "the same boot"])
async def test_5_after_a_reboot_the_runs_of_a_worker_are_free_whatever_its_lease_says(
    same_boot: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of the new boot the old lease would last for a year. Of the same boot it would be believed."""
    ledger = Ledger()

    @step(kind="idempotent")
    async def act() -> str:
        ledger.note("act")
        if ledger.count("act") == 1:
            await asyncio.get_running_loop().create_future()
        return "done"

    @workflow
    async def main(run: Run) -> Any:
        return await run.step(act)

    path = tmp_path / "runs.db"
    if not same_boot:
        monkeypatch.setattr("perdure.store.sqlite.leases.boot_id", lambda: "an earlier boot")
    first = await opened(on_disk(path, boot_clock=lambda: UP_FOR_A_YEAR_MS), main)
    monkeypatch.undo()
    await first.start(main, id="r1")
    await ledger.reaches("act")
    # The first worker still holds its lock file: nothing but the boot tells that it is gone.
    async with running(on_disk(path, boot_clock=lambda: JUST_STARTED_MS), main) as second:
        handle = second.run("r1")
        if same_boot:
            assert second.worker.lease.valid()
            assert await second.store.claim_run(second.worker.lease, "r1") is None
            assert await second.store.next_due_ms(["main"]) is None
        else:
            assert await handle.result() == "done"
            (interrupted,) = await events_of(handle, "node.interrupted")
            assert interrupted.data["worker"] == first.worker_id
    await die(first)
    assert ledger.count("act") == (1 if same_boot else 2)
