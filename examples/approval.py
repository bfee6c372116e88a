"""An approval, then a payment that must not happen twice: a question without a default, a `once` step, a probe.

    perdure run examples/approval.py --input invoice=A-17 --input cents=4200     # asks; without a terminal it waits
    perdure answer RUN approve
    perdure run examples/approval.py --id RUN

The bank here is a file with one line for each transfer (`.perdure/bank.txt`). If the worker dies in the middle of
`transfer`, nobody can know from the outside whether the money went: the step is in doubt. So the probe looks into the
bank's book. Without a probe, a person would be asked (`perdure resolve`).
"""

from __future__ import annotations

import os
from pathlib import Path

from perdure import Done, NotDone, Run, current_step, step, workflow


def was_transferred(bank: str, invoice: str, cents: int) -> object:
    """The probe: `Done` with what the step would have returned, or `NotDone`. A third answer is `Unknown`."""
    book = Path(bank).read_text().splitlines() if Path(bank).exists() else []
    found = next((number for number, line in enumerate(book, 1) if line.startswith(f"{invoice} ")), None)
    return NotDone if found is None else Done(f"transfer {found}")


@step(kind="once", probe=was_transferred, timeout="10s")
def transfer(bank: str, invoice: str, cents: int) -> str:
    """Pay. A real bank would be given the idempotency key, and refuse it when it comes a second time."""
    Path(bank).parent.mkdir(parents=True, exist_ok=True)
    with open(bank, "a") as book:
        book.write(f"{invoice} {cents} {current_step().idempotency_key}\n")
        book.flush()
        os.fsync(book.fileno())
    return f"transfer {len(Path(bank).read_text().splitlines())}"


@workflow
async def approval(run: Run, invoice: str, cents: int, bank: str = ".perdure/bank.txt") -> str:
    """Pay an invoice, if somebody approves.

    Args:
        invoice: its number.
        cents: how much.
        bank: the bank's book.
    """
    decision: str = await run.ask(f"Pay invoice {invoice} ({cents / 100:.2f})?", choices=["approve", "reject"])
    if decision == "reject":
        return f"{invoice} rejected"
    return f"{invoice} paid: {await run.step(transfer, bank, invoice, cents)}"
