"""Workflows of the service that is killed; what they do in the world is a line in the ledger."""

from __future__ import annotations

import os
from pathlib import Path

from perdure import Done, NotDone, Run, step, workflow

DIRECTORY = Path(os.environ["PERDURE_TEST_DIRECTORY"])


def note(line: str) -> None:
    """Add a line to the ledger: one write, so that it is there as a whole or not at all."""
    ledger = os.open(DIRECTORY / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(ledger, f"{line}\n".encode())
    os.close(ledger)


@step(kind="idempotent")
async def say(text: str) -> str:
    """An effect that may be repeated."""
    return text.upper()


@workflow
async def chatter(run: Run, bursts: int, events: int) -> int:
    """Waits for a signal, then does and tells much; again and again."""
    for burst in range(bursts):
        await run.wait_for("go")
        for number in range(events):
            await run.step(say, f"{burst}-{number}")
            run.emit("number.said", {"burst": burst, "number": number})
    return bursts * events


async def was_delivered(number: int) -> object:
    """Looks into the ledger."""
    ledger = DIRECTORY / "ledger"
    found = ledger.exists() and str(number) in ledger.read_text().split()
    return Done(number) if found else NotDone


@step(kind="once", probe=was_delivered, timeout="5s")
async def deliver(number: int) -> int:
    """An effect that must not be repeated."""
    note(str(number))
    return number


@workflow
async def order(run: Run, number: int) -> int:
    """Delivers once."""
    return await run.step(deliver, number)
