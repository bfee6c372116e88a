"""Signals: events from outside that a run waits for. One that comes too early is kept until the run reads it.

    perdure run examples/wait_for_signal.py --id order-7 --input order=7 --detach
    perdure signal order-7 payment --match 7 --payload '{"amount_cents": 1250, "method": "card"}'
    perdure worker examples/wait_for_signal.py

The payload is checked against the declared type. `match` takes only a signal that was sent with that key, and each
signal is delivered once. A wait that times out without a default raises `WaitTimeout`.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure import Run, WaitTimeout, step, workflow


@dataclass(frozen=True)
class Payment:
    """What the payment service tells."""

    amount_cents: int
    method: str


@step(kind="pure")
def receipt(order: int, payment: Payment) -> str:
    """The line on the receipt."""
    return f"order {order}: {payment.amount_cents / 100:.2f} by {payment.method}"


@workflow
async def wait_for_signal(run: Run, order: int = 7, patience: str = "3d") -> str:
    """Wait for the payment of an order.

    Args:
        order: its number.
        patience: how long to wait.
    """
    try:
        payment = await run.wait_for("payment", match=str(order), type=Payment, timeout=patience)
    except WaitTimeout:
        return f"order {order}: not paid within {patience}"
    return await run.step(receipt, order, payment)
