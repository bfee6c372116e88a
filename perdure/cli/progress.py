"""The progress of a run on a terminal: what ran, what it waits for, and what was kept after a crash.

It shows what the journal says and nothing else, so whatever is on the screen is durable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from perdure.cli.account import COUNTED, IN_DOUBT, INTERRUPTED, RETRYING, RUNNING, WAITING, Account, StepAccount
from perdure.cli.output import count
from perdure.cli.story import line_of, status_text
from perdure.cli.times import now_ms, span, until
from perdure.core import kinds
from perdure.core.events import Event
from perdure.store.port import RunRow, Store

PAGE: Final = 1000
MOST_LINES: Final = 200
"""Lines of steps that are printed; of more only the count is shown."""
MOST_KEPT: Final = 12
MOST_ACTIVE: Final = 8
ACTIVE: Final = frozenset((RUNNING, RETRYING, WAITING, IN_DOUBT, INTERRUPTED))


class Progress:
    """A live display of a run and its descendants.

    Args:
        console: a terminal.
        store: where journals are read.
        run_id: the run.
        known: what was recorded before this process went on with it, by seq; 0 for a new run.
    """

    def __init__(self, console: Console, store: Store, run_id: str, known: int) -> None:
        self._console = console
        self._store = store
        self._run_id = run_id
        self._known = known
        self._accounts: dict[str, Account] = {}
        self._rows: Sequence[RunRow] = ()
        self._active: dict[tuple[str, int], tuple[RunRow, StepAccount]] = {}
        self._done: set[tuple[str, int]] = set()
        self._lines = 0
        self._began_ms = now_ms()
        self._spinner = Spinner("dots")
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Progress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """While somebody is asked."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    async def look(self, tree: Sequence[RunRow]) -> None:
        """Read what is new and show it.

        Args:
            tree: the index rows of the run and its descendants.
        """
        self._rows = tree
        for row in tree:
            account = self._accounts.setdefault(row.run_id, Account())
            while events := await self._store.read(row.run_id, after=account.seq, limit=PAGE):
                for event in events:
                    self._take(row, account, event)
                if len(events) < PAGE:
                    break

    def _take(self, row: RunRow, account: Account, event: Event) -> None:
        try:
            step = account.add(event)
        except (KeyError, TypeError, ValueError):
            return  # it is not what was written; the recovery of the run says so
        if step is not None:
            self._count(row, step)
        if row.run_id == self._run_id and event.seq <= self._known:
            if event.seq == self._known:
                self._show_known(account)
            return
        if event.kind == kinds.NODE_INTERRUPTED:
            self._print(_interruption(account, event))
        elif event.kind == kinds.NODE_ENTERED and not _is_single(event):
            self._print(Text(f"• {event.node}", style="bold"))
        elif step is not None and (step.settled or step.status in (RETRYING, IN_DOUBT)):
            self._print(self._line(row, step))

    def _count(self, row: RunRow, step: StepAccount) -> None:
        place = (row.run_id, step.seq)
        if step.status in ACTIVE:
            self._active[place] = (row, step)
        else:
            self._active.pop(place, None)
        if step.settled and step.what in COUNTED:
            self._done.add(place)

    def _line(self, row: RunRow, step: StepAccount) -> Text:
        line = line_of(step)
        return line if row.run_id == self._run_id else Text(f"  {row.workflow}: ", style="dim").append(line)

    def _show_known(self, account: Account) -> None:
        """What stands in the journal already and is not done again."""
        kept = account.done()
        if not kept:
            return
        self._print(Text(f"kept from before: {count(len(kept), 'step')}", style="green"))
        for step in kept[-MOST_KEPT:]:
            self._print(line_of(step))

    def _print(self, text: Text) -> None:
        self._lines += 1
        if self._lines < MOST_LINES:
            self._live.console.print(text)
        elif self._lines == MOST_LINES:
            self._live.console.print(Text("… (the rest is only counted)", style="dim"))

    # --- the live part ------------------------------------------------------------------------------------------------

    def _render(self) -> RenderableType:
        now = now_ms()
        active = list(self._active.values())
        lines: list[RenderableType] = [self._active_line(row, step, now) for row, step in active[:MOST_ACTIVE]]
        hidden = len(active) - MOST_ACTIVE
        if hidden > 0:
            lines.append(Text(f"  … and {hidden} more", style="dim"))
        return Group(*lines, self._bottom(now))

    def _active_line(self, row: RunRow, step: StepAccount, now: int) -> Text:
        line = self._line(row, step)
        if step.due_ms is not None:
            line.append(f" {until(step.due_ms, now)}", style="dim")
        elif step.status == RUNNING:
            line.append(f" {span(now - step.started_ms)}", style="dim")
        return line

    def _bottom(self, now: int) -> RenderableType:
        if not self._rows:
            return self._spinner
        root = self._rows[0]
        done = len(self._done)
        grid = Table.grid(padding=(0, 1))
        text = Text(f"{root.workflow} {root.run_id}: ")
        text.append(status_text(root.status, root.reason))
        text.append(f", {count(done, 'step')}, {span(now - self._began_ms)}", style="dim")
        grid.add_row(self._spinner, text)
        return grid


def _is_single(event: Event) -> bool:
    """Whether a node is that of a function workflow, which nobody needs to see."""
    return event.node == "main#1"


def _interruption(account: Account, event: Event) -> Text:
    node = event.node or ""
    kept = sum(1 for step in account.steps if step.kept and step.node == node)
    cause = "was stopped" if event.data.get("cause") == "drain" else "was lost"
    attempt = f"attempt {event.data['attempt']} of {node}"
    return Text(f"⚡ the worker {cause} in {attempt}; kept: {count(kept, 'step')}", style="yellow")
