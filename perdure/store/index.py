"""How the index changes of one append's drafts become a single change of the run's index rows."""

from __future__ import annotations

from typing import Final

from perdure.core.events import IndexChange, WaitRow
from perdure.store.port import Append

TERMINAL: Final = ("completed", "failed", "cancelled")


def merge(append: Append) -> IndexChange | None:
    """The sum of an append's changes, in order: a later field wins, a wait that opens and closes is gone.

    A merged change closes before it opens: what a draft closes after an earlier one opened it no longer stands in
    `opened`.

    Returns:
        `None` when nothing of the index changes.
    """
    changes = [draft.change for draft in append.drafts if draft.change is not None]
    if append.change is not None:
        changes.append(append.change)
    if len(changes) < 2:
        return changes[0] if changes else None
    total = changes[0]
    for change in changes[1:]:
        total = _followed_by(total, change)
    return total


def _followed_by(first: IndexChange, then: IndexChange) -> IndexChange:
    return IndexChange(
        status=first.status if then.status is None else then.status,
        reason=first.reason if then.reason is None else then.reason,
        due_ms=first.due_ms if then.due_ms is None else then.due_ms,
        base_seq=first.base_seq if then.base_seq is None else then.base_seq,
        opened=_still_open(first.opened, then.closed) + then.opened,
        closed=tuple(dict.fromkeys(first.closed + then.closed)),
        release=first.release or then.release,
        wake=first.wake if then.wake is None else then.wake,
    )


def _still_open(opened: tuple[WaitRow, ...], closed: tuple[str, ...]) -> tuple[WaitRow, ...]:
    if "*" in closed:
        return ()
    return tuple(wait for wait in opened if wait.wait_id not in closed)
