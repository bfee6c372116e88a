"""When a run that only waits is left alone."""

from __future__ import annotations

from collections.abc import Sequence

from perdure import Run, Runtime, workflow
from perdure.cli.exits import COMPLETED, WAITING
from perdure.cli.supervision import Supervisor
from perdure.store.port import OpenWait, RunRow


@workflow
async def patient(run: Run) -> str:
    return await run.wait_for("go", timeout="1h")


class LateReader(Supervisor):
    """Reads the waits only when the run has gone on."""

    async def _waits(self, tree: Sequence[RunRow]) -> list[OpenWait]:
        await self._runtime.signal("go", "gone", run_id=self._run_id)
        await self._runtime.run(self._run_id).result()
        return await super()._waits(tree)


async def looked(_: Sequence[RunRow]) -> bool:
    return False


async def verdict(kind: type[Supervisor]) -> int | None:
    async with Runtime("memory://") as runtime:
        handle = await runtime.start(patient)
        async for event in handle.events():
            if event.kind == "run.suspended":
                break
        return await kind(runtime, handle.id, patience_s=0, look=looked, asking=lambda: False).supervise()


async def test_a_run_that_only_waits_is_left() -> None:
    assert await verdict(Supervisor) == WAITING


async def test_a_run_that_went_on_while_its_waits_were_read_is_looked_at_again() -> None:
    assert await verdict(LateReader) == COMPLETED
