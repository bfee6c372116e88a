"""How the changes of one append add up."""

from __future__ import annotations

from perdure.core.events import Draft, Head, IndexChange, WaitRow
from perdure.store.index import merge
from perdure.store.port import Append

A = WaitRow("a", "timer", "", None, 1)
B = WaitRow("b", "timer", "", None, 2)


def append(*changes: IndexChange | None, own: IndexChange | None = None) -> Append:
    drafts = [Draft("x", b"{}", b"s" * 16, 1, change=change) for change in changes]
    return Append("r", drafts, Head(0, b""), change=own)


def test_no_change_is_none() -> None:
    assert merge(append(None, None)) is None


def test_a_single_change_is_itself() -> None:
    change = IndexChange(status="running", wake="p")
    assert merge(append(None, change)) is change
    assert merge(append(None, own=change)) is change


def test_later_fields_win_and_unnamed_ones_stay() -> None:
    total = merge(
        append(
            IndexChange(status="running", reason="x", due_ms=1, base_seq=2, release=True, wake="p"),
            IndexChange(status="waiting", due_ms=0),
            own=IndexChange(reason=""),
        )
    )
    assert total == IndexChange("waiting", "", 0, 2, release=True, wake="p")


def test_waits_are_followed_in_order() -> None:
    opened_then_closed = merge(append(IndexChange(opened=(A, B)), IndexChange(closed=("a",))))
    assert opened_then_closed == IndexChange(opened=(B,), closed=("a",))
    closed_then_opened = merge(append(IndexChange(closed=("a",)), IndexChange(opened=(A,))))
    assert closed_then_opened == IndexChange(opened=(A,), closed=("a",))
    all_closed = merge(append(IndexChange(opened=(A,)), IndexChange(closed=("*",)), IndexChange(opened=(B,))))
    assert all_closed == IndexChange(opened=(B,), closed=("*",))
