"""Schemathesis over the OpenAPI document, all checks on, against a service whose runs stand in every state.

With `PERDURE_SOAK` in the environment it goes on for `PERDURE_SOAK_S` seconds (600 if that is not there), from another
seed each time; the report of a failure names it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure.server.document import operations_of
from perdure.server.following.streams import COMMENT
from tests.http.server.served import Served, served

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
PROGRAM: Final = Path(sys.executable).with_name("st")
SOAK_S: Final = int(os.environ.get("PERDURE_SOAK_S", "600")) if os.environ.get("PERDURE_SOAK") else 0
EXAMPLES: Final = 6
SEED: Final = 4

RUNS: Final[dict[str, dict[str, Any]]] = {
    "add": {"workflow": "add", "input": {"a": 1}, "tags": ["sum"]},
    "ask": {"workflow": "ask"},
    "listen": {"workflow": "listen"},
    "count": {"workflow": "count", "input": {"numbers": 3}},
    "keep": {"workflow": "keep", "input": {"text": "durable"}},
    "fails": {"workflow": "fails"},
    "pause": {"workflow": "listen"},
    "cancel": {"workflow": "listen"},
}
GATE: Final = """
digraph g {
    start [shape=Mdiamond]; ask [shape=hexagon, label="Go?"]; stop [shape=box, prompt="Stop"]; exit [shape=Msquare]
    start -> ask
    ask -> exit [label="Yes"]
    ask -> stop [label="No"]
    stop -> exit
}
"""
PLAIN: Final = "digraph g { start [shape=Mdiamond]; exit [shape=Msquare]; start -> exit }"


class EndsWhenQuiet:
    """Ends a stream at its first comment: one of a run that waits has no end, and nobody would read on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        quiet = asyncio.Event()

        async def received() -> Message:
            reading = asyncio.ensure_future(receive())
            ending = asyncio.ensure_future(quiet.wait())
            try:
                await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
                return reading.result() if reading.done() else {"type": "http.disconnect"}
            finally:
                reading.cancel()
                ending.cancel()

        async def sent(message: Message) -> None:
            if quiet.is_set():
                return
            if message.get("body") == COMMENT:
                quiet.set()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app(scope, received, sent)


async def fill(place: Served) -> None:
    """Start runs, a few of each kind, so that some remain when others were answered or cancelled."""
    for number in range(3):
        for name, body in RUNS.items():
            answer = await place.client.post("/runs", json=body | {"id": f"{name}-{number}"})
            assert answer.status_code == 201, answer.text
        assert (await place.client.post(f"/runs/pause-{number}/pause")).status_code == 202
        assert (await place.client.post(f"/runs/cancel-{number}/cancel")).status_code == 202
        for name, dot in (("gate", GATE), ("plain", PLAIN), ("cancelled", GATE)):
            body = {"dot": dot, "opts": {"pipeline_id": f"{name}-{number}"}}
            answer = await place.client.post("/pipelines", json=body)
            assert answer.status_code == 202, answer.text
        await place.reaches(f"cancelled-{number}", "waiting")
        assert (await place.client.post(f"/pipelines/cancelled-{number}/cancel")).status_code == 202
        for name, status in (("fails", "failed"), ("keep", "completed"), ("ask", "waiting"), ("pause", "paused")):
            await place.reaches(f"{name}-{number}", status)


async def schemathesis(place: Served, folder: Path, *options: str) -> tuple[int, str]:
    """Run it over the service's document: how it ended, and its report."""
    assert place.keys is not None
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "--config-file", str(CONFIG), "run", f"{place.service.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {place.keys.token}", "--checks", "all", *options),
        cwd=folder,  # it keeps what it learnt in a folder of its own
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        report, _ = await process.communicate()
    except BaseException:
        process.kill()
        raise
    return process.returncode or 0, report.decode("utf-8", "replace")


@pytest.mark.time_limit(SOAK_S + 150)
async def test_the_service_does_what_its_document_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = ["--seed", str(SEED), "--max-examples", str(EXAMPLES)]
    if SOAK_S:
        options = ["--seed", str(secrets.randbits(32)), "--max-examples", "200", "--max-time", str(SOAK_S)]
    async with served(heartbeat_s=0.05) as place:
        place.service.app.add_middleware(EndsWhenQuiet)
        await fill(place)
        code, report = await schemathesis(place, tmp_path, *options)
        assert code == 0, report
        operations = list(operations_of((await place.client.get("/openapi.json")).json()))
        assert f"Tested: {len(operations)}\n" in report
        assert all(f" {phase} (in " in report for phase in ("Coverage", "Fuzzing", "Stateful")), report
    assert not [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
