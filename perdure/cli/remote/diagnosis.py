"""What `doctor --server` and `version --server` do: examine a service, and over it the runs of its store."""

from __future__ import annotations

from typing import Any, Final

from perdure.cli.diagnosis import (
    Finding,
    conclude,
    examine_runs,
    old_questions,
    part,
    versions,
    worker_data,
)
from perdure.cli.output import Output
from perdure.cli.place import Place
from perdure.cli.remote.server import Server
from perdure.core.version import VERSION

NOT_CHECKED: Final = ("the store's pages", "its write-ahead log")
"""What only 'perdure doctor' can examine where the store is."""


async def examine_service(place: Place, output: Output, *, everything: bool) -> int:
    """Examine the service and print what was found. Journals are checked on this machine.

    Raises:
        ServiceError: it cannot be asked.
    """
    findings: list[Finding] = []
    async with place.reading() as runtime:
        about: dict[str, Any] = versions() | {"not_checked": list(NOT_CHECKED)}
        assert place.server is not None
        about["server"] = await _service(place.server, findings)
        about["runs"] = await part(findings, "the numbers of runs", runtime.store.count_runs(), {})
        workers = await part(findings, "the list of workers", runtime.store.workers(), [])
        about["workers"] = [worker_data(worker) for worker in workers]
        findings += await examine_runs(place, runtime, workers, everything=everything)
        findings += await old_questions(place, runtime)
    return conclude(output, about, findings)


async def _service(server: Server, findings: list[Finding]) -> dict[str, Any]:
    """Who answers, and whether it can serve requests."""
    async with server.client() as client:
        version, ready = (await client.version()).version, await client.ready()
    if not ready:
        findings.append(Finding("service", f"it is not ready: {ready.error or ready.status}", broken=True))
    if version != VERSION:
        findings.append(Finding("service", f"it is of version {version}, and this program of version {VERSION}"))
    return {"url": server.url, "version": version, "status": ready.status}


async def show_versions(place: Place, output: Output) -> int:
    """Print the versions of this program and of the service.

    Raises:
        ServiceError: it cannot be asked.
    """
    assert place.server is not None
    async with place.server.client() as client:
        told = await client.version()
    found = versions()
    if output.json:
        output.value(found | {"server": {"url": place.url, "name": told.name, "version": told.version}})
        return 0
    output.line(f"perdure {found['perdure']} (Python {found['python']}, SQLite {found['sqlite']})")
    output.line(f"{place.url}: {told.name} {told.version}")
    return 0
