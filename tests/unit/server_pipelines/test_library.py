"""Which pipelines a service knows: those of its unfinished runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure import Runtime
from perdure.server.pipelines import Library, PipelineSettings
from tests.unit.server_pipelines.service import GATE, PLAIN, served


async def forgotten(library: Library) -> None:
    """Once the tasks that forget are done."""
    while library._tasks:
        await asyncio.gather(*library._tasks)


async def test_a_pipeline_is_forgotten_when_the_last_of_its_runs_has_ended() -> None:
    async with served() as service:
        library = service.library
        texts = [PLAIN.replace("Work", f"Work {number}") for number in range(50)]
        runs = [await service.start(text) for text in [*texts, *texts]]
        for run in runs:
            assert (await service.ended(run))["status"] == "success"
        await forgotten(library)
        assert (service.runtime.registry.names(), library._runs, library._unfinished) == ([], {}, {})


async def test_a_pipeline_is_known_while_one_of_its_runs_waits() -> None:
    async with served() as service:
        waits, ends = await service.start(GATE), await service.start(GATE)
        asked = await service.question(ends)
        await service.question(waits)
        await service.post(f"/pipelines/{ends}/questions/{asked['id']}/answer", {"answer": "Y"})
        await service.ended(ends)
        await forgotten(service.library)
        (name,) = service.runtime.registry.names()
        asked = await service.question(waits)
        await service.post(f"/pipelines/{waits}/questions/{asked['id']}/answer", {"answer": "Y"})
        assert (await service.ended(waits))["status"] == "success"
        await forgotten(service.library)
        assert name not in service.runtime.registry


async def test_an_ended_run_is_shown_and_drawn_although_its_pipeline_is_forgotten() -> None:
    async with served() as service:
        run = await service.start(PLAIN)
        await service.ended(run)
        await forgotten(service.library)
        assert (await service.get(f"/pipelines/{run}/graph", params={"format": "dot"})).text == PLAIN
        assert (await service.get(f"/pipelines/{run}")).json()["status"] == "success"
        assert service.runtime.registry.names() == []


async def test_a_run_that_is_opened_again_knows_its_pipeline_again() -> None:
    async with served() as service:
        run = await service.start(GATE)
        asked = await service.question(run)
        await service.post(f"/pipelines/{run}/cancel")
        await service.post(f"/pipelines/{run}/questions/{asked['id']}/answer", {"answer": "Y"})
        await forgotten(service.library)
        assert service.runtime.registry.names() == []
        assert (await service.post(f"/pipelines/{run}/resume")).status_code == 202
        assert (await service.ended(run))["status"] == "success"


async def test_what_another_server_left_is_taken_up(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    async with Runtime(store) as runtime:
        library = Library(runtime, PipelineSettings())
        async with served(store, execute=False) as other:
            run = await other.start(PLAIN)
            assert await library.know_unfinished() == {}
        assert await runtime.run(run).result()
        await forgotten(library)
        assert runtime.registry.names() == []
