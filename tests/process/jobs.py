"""Workflows of worker processes: what they do to the world is appended to one file, whoever does it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from perdure import Done, NotDone, Run, current_step, step, workflow

DIRECTORY = Path(os.environ.get("PERDURE_TEST_DIRECTORY", "."))


def happened(what: str) -> None:
    """Append one line to the ledger, in one write that no death of this process can tear or take back."""
    ledger = os.open(DIRECTORY / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, f"{what}\n".encode())
    finally:
        os.close(ledger)


def has_happened(what: str) -> bool:
    """Whether a line with this beginning is in the ledger."""
    ledger = DIRECTORY / "ledger"
    return ledger.exists() and any(line.startswith(what) for line in ledger.read_text().splitlines())


async def let_through(name: str) -> None:
    """Tell the parent that this process is here, and wait until it makes a file of that name."""
    print(f"at {name}", flush=True)
    while not (DIRECTORY / name).exists():  # noqa: ASYNC110  (a file announces nothing)
        await asyncio.sleep(0.005)


# --- one step that can be held up -------------------------------------------------------------------------------------


async def act(name: str) -> str:
    info = current_step()
    happened(f"{name} {info.run_id} {info.key} epoch={info.epoch} attempt={info.attempt}")
    await let_through(f"go-{os.getpid()}")
    return f"{name} by {os.getpid()} under epoch {info.epoch}"


@step(kind="once")
async def pay() -> str:
    return await act("pay")


async def was_paid() -> Any:
    happened("probe")
    return Done("found by the probe") if has_happened("pay_probed") else NotDone


@step(kind="once", probe=was_paid, timeout="1s")
async def pay_probed() -> str:
    happened(f"pay_probed {current_step().run_id}")
    await let_through(f"go-{os.getpid()}")
    return "paid"


@step(kind="idempotent")
async def send() -> str:
    return await act("send")


@workflow
async def one_step(run: Run, which: str) -> str:
    return str(await run.step({"pay": pay, "pay_probed": pay_probed, "send": send}[which]))


# --- many short steps -------------------------------------------------------------------------------------------------


async def find_receipt(number: int) -> Any:
    run_id = current_run.get("id", "")
    return Done(number) if has_happened(f"charge {run_id} {number} ") else NotDone


current_run: dict[str, str] = {}


@step(kind="once", probe=find_receipt, timeout="10s", name="charge")
async def charge(number: int) -> int:
    happened(f"charge {current_step().run_id} {number} ")
    return number


@step(kind="idempotent", name="post")
async def post(number: int) -> int:
    happened(f"post {current_step().run_id} {number} ")
    return number


@step(kind="read", name="look")
async def look(number: int) -> int:
    return number


@workflow
async def chain(run: Run, count: int) -> int:
    """A chain of effects: each can only begin when the one before it is durable."""
    current_run["id"] = run.id
    total = 0
    for number in range(count):
        total += await run.step(charge if number % 3 == 2 else post, number)
        await run.step(look, number)
        run.state["done"] = number
    return total


@workflow
async def shared(run: Run) -> str:
    """Two effects and what lies between them; it begins when the starting signal is there."""
    happened(f"begun {run.id} {os.getpid()}")
    while not (DIRECTORY / "start").exists():  # noqa: ASYNC110  (a file announces nothing)
        await asyncio.sleep(0.005)
    await run.step(post, 0)
    await run.sleep(0.001)
    await run.step(post, 1)
    return "done"


# --- deadly ones ------------------------------------------------------------------------------------------------------


@step(kind="idempotent")
async def poison() -> None:
    happened("poison")
    os.kill(os.getpid(), signal.SIGKILL)


@workflow
async def poisoned(run: Run) -> None:
    await run.step(poison)


@workflow
async def deadly_code(run: Run) -> None:
    """Its own code kills the process, before it has asked for anything."""
    happened("deadly code")
    os.kill(os.getpid(), signal.SIGKILL)


@workflow
async def deadly_after_an_answer(run: Run) -> None:
    await run.wait_for("go")
    happened("deadly after an answer")
    os.kill(os.getpid(), signal.SIGKILL)


@workflow
async def innocent(run: Run) -> str:
    await run.step(post, 0)
    while not (DIRECTORY / "innocents may go").exists():  # noqa: ASYNC110  (a file announces nothing)
        await asyncio.sleep(0.005)
    await run.step(post, 1)
    return "done"


@workflow
async def waits(run: Run) -> Any:
    return await run.wait_for("go")


@workflow
async def drained(run: Run, kind: str) -> str:
    """Steps that a drain meets."""
    return str(await run.step(send))


ALL = [one_step, chain, shared, poisoned, deadly_code, deadly_after_an_answer, innocent, waits, drained]
