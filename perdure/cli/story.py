"""The account of a run as text: a head, the steps as a tree, and why it stands where it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from perdure.cli.account import (
    CANCELLED,
    DONE,
    FAILED,
    IN_DOUBT,
    INTERRUPTED,
    NOT_DONE,
    RETRYING,
    RUNNING,
    SETTLED,
    TIMED_OUT,
    VALUE_LOST,
    WAITING,
    Account,
    NodeAccount,
    StepAccount,
)
from perdure.cli.explanation import Point
from perdure.cli.output import WIDE, count, table
from perdure.cli.times import instant, span, until
from perdure.journal.state import TERMINAL

if TYPE_CHECKING:
    from rich.console import RenderableType

    from perdure.journal.state import RunState
    from perdure.store.port import RunRow

MARKS: Final = {
    DONE: ("✓", "green"),
    FAILED: ("✗", "red"),
    VALUE_LOST: ("✓", "yellow"),
    RUNNING: ("▸", "cyan"),
    RETRYING: ("↻", "yellow"),
    IN_DOUBT: ("?", "bold red"),
    WAITING: ("…", "blue"),
    TIMED_OUT: ("◷", "yellow"),
    CANCELLED: ("–", "dim"),
    NOT_DONE: ("–", "yellow"),
    INTERRUPTED: ("⚡", "yellow"),
}
STATUS_STYLES: Final = {
    "completed": "green",
    "failed": "red",
    "cancelled": "dim",
    "waiting": "blue",
    "running": "cyan",
    "paused": "yellow",
    "pending": "",
}
MOST_ROWS: Final = 60
"""Steps that are shown unless all are asked for."""


def status_text(status: str, reason: str = "") -> Text:
    """A run's status, with the reason where there is one."""
    if status == "paused" and reason != "paused":
        return Text(f"parked ({reason})" if reason else "paused", style="yellow")
    return Text(status, style=STATUS_STYLES.get(status, ""))


def head(row: RunRow, account: Account, state: RunState, now_ms: int) -> RenderableType:
    """Who the run is and how it stands."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    took = f"began {instant(row.created_ms)} ({until(row.created_ms, now_ms)})"
    lasted_ms = duration_ms(row, state)
    if lasted_ms is not None:
        took += f", ended after {span(lasted_ms)}"
    else:
        took += f", last changed {until(state.last_ms, now_ms)}"
    lines: list[tuple[str, RenderableType]] = [
        ("run", Text(row.run_id)),
        ("workflow", Text(f"{row.workflow} (version {row.version})")),
        ("status", status_text(row.status, row.reason)),
        ("time", Text(took)),
        ("journal", Text(count(account.seq, "record"))),
    ]
    if account.crashes:
        times = "once" if account.crashes == 1 else f"{account.crashes} times"
        kept = count(len(account.kept()), "step")
        lines.append(("crashes", Text(f"its worker was lost {times}; kept: {kept}", style="yellow")))
    if account.generation:
        lines.append(("generation", Text(str(account.generation))))
    if row.parent_id:
        lines.append(("parent", Text(row.parent_id)))
    if row.tags:
        lines.append(("tags", Text(", ".join(row.tags))))
    for label, content in lines:
        grid.add_row(Text(label), content)
    return grid


def duration_ms(row: RunRow, state: RunState) -> int | None:
    """From a run's start to its end, in milliseconds, whatever came after that; `None` while it has not ended."""
    if row.status not in TERMINAL:
        return None
    ended_ms = state.ended.time_ms if state.ended is not None else row.updated_ms  # the end may stand in a damaged part
    return ended_ms - row.created_ms


def steps(account: Account, *, all_rows: bool = False, width: int = WIDE) -> RenderableType:
    """The steps, node by node and branch by branch."""
    rows = list(_rows(account.nodes))
    left_out = 0 if all_rows else max(0, len(rows) - MOST_ROWS)
    shown = table(
        ("step", "kind", "status", "tries", "time", "kept", ""), [row for _, row in rows[left_out:]], width=width
    )
    if not left_out:
        return shown
    from rich.console import Group

    return Group(Text(f"({left_out} earlier lines are left out; --all shows them)", style="dim"), shown)


def _rows(nodes: Sequence[NodeAccount]) -> Iterable[tuple[int, tuple[str | Text, ...]]]:
    single = len(nodes) == 1
    for node in nodes:
        if not single or node.status in ("failed", "interrupted") or node.attempt > 1 or not node.steps:
            yield 0, _node_row(node)
        opened: tuple[str, ...] = ()
        alone = _alone(node.steps)
        for step in _by_place(node.steps):
            branch = step.branch
            above = branch[:-1] if branch in alone else branch  # a branch of one step needs no line of its own
            for depth, name in enumerate(above):
                if above[: depth + 1] != opened[: depth + 1]:
                    yield depth + 1, (Text("  " * (depth + 1) + name, style="dim"), "", "", "", "", "", "")
            opened = above
            yield len(above) + 1, _step_row(step, len(above) + 1, "/".join(branch[len(above) :]))


def _alone(found: Sequence[StepAccount]) -> set[tuple[str, ...]]:
    """Branches that hold one step and nothing else."""
    counts = Counter(step.branch[:depth] for step in found for depth in range(1, len(step.branch) + 1))
    return {step.branch for step in found if step.branch and counts[step.branch] == 1}


def _by_place(found: Sequence[StepAccount]) -> list[StepAccount]:
    """Steps in the order of their record, but those of one branch together, where its first one stands."""
    first: dict[tuple[str, ...], int] = {}
    for position, step in enumerate(found):
        for depth in range(1, len(step.branch) + 1):
            first.setdefault(step.branch[:depth], position)

    def place(item: tuple[int, StepAccount]) -> list[int]:
        position, step = item
        above = [first[step.branch[:depth]] for depth in range(1, len(step.branch) + 1)]
        return [*above, position]

    return [step for _, step in sorted(enumerate(found), key=place)]


def _node_row(node: NodeAccount) -> tuple[str | Text, ...]:
    detail = ""
    if node.error is not None:
        detail = str(node.error.get("message", ""))
    elif node.next:
        detail = f"next: {', '.join(node.next)}"
    crashed = f"{node.crashes} lost" if node.crashes else ""
    time = span(node.ended_ms - node.entered_ms) if node.ended_ms is not None else ""
    return Text(node.node, style="bold"), "node", node.status, str(node.attempt), time, crashed, detail


def _step_row(step: StepAccount, depth: int, branch: str) -> tuple[str | Text, ...]:
    mark, style = MARKS[step.status]
    name = Text("  " * depth + f"{mark} ", style=style)
    name.append(f"{branch} " if branch else "", style="dim")
    label = step.name if step.what in ("wait", "artifact", "event", "patch") else step.key
    name.append(label, style="")
    tries = str(step.attempts) if step.what == "step" else ""
    time = span(step.duration_ms) if step.duration_ms is not None else ""
    return name, step.kind, Text(step.status, style=style), tries, time, _kept(step), _detail(step)


def _kept(step: StepAccount) -> str:
    if not step.kept:
        return ""
    return "kept" if step.kept == 1 else f"kept ×{step.kept}"


def _detail(step: StepAccount) -> str:
    return step.detail if step.child is None else f"{step.child} {step.detail}".rstrip()


def points(heading: str, found: Sequence[Point]) -> list[RenderableType]:
    """Reasons, or things to do, under a heading; nothing where there are none."""
    if not found:
        return []
    lines: list[RenderableType] = [Text(""), Text(heading, style="bold")]
    for point in found:
        lines.append(Text(f"  {point.text}"))
        lines += [Text(f"    {detail}", style="dim") for detail in point.details]
        lines += [Text(f"    $ {command}", style="cyan") for command in point.commands]
    return lines


def line_of(step: StepAccount) -> Text:
    """A step in one line, for the progress of a run."""
    mark, style = MARKS[step.status]
    branch = f"{'/'.join(step.branch)} " if step.branch else ""
    label = step.name if step.what in ("wait", "artifact", "event", "patch") else step.key
    text = Text(f"{mark} ", style=style)
    text.append(branch, style="dim")
    text.append(label, style="" if step.status in SETTLED else "bold")
    text.append(f" {step.kind}", style="dim")
    if step.duration_ms is not None:
        text.append(f" {span(step.duration_ms)}", style="dim")
    if step.attempts > 1:
        text.append(f" attempt {step.attempts}", style="yellow")
    if step.kept:
        text.append(" kept", style="green")
    if step.status in (FAILED, RETRYING, IN_DOUBT, TIMED_OUT) or step.what == "wait":
        text.append(f" {step.detail}", style="dim")
    return text
