"""Asking a person at the terminal, without blocking the runs that go on meanwhile."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure.cli import given
from perdure.cli.account import preview
from perdure.cli.approval import approval_lines
from perdure.cli.sending import asked
from perdure.cli.times import now_ms, until
from perdure.core.errors import AnswerRefusedError
from perdure.engine.watching import Question

if TYPE_CHECKING:
    from rich.console import Console


class Later(Exception):
    """The person does not want to answer now."""


class Prompter:
    """Asks questions, one at a time.

    Args:
        console: where they are printed.
        read: reads one line; `None` at the end of the input.
    """

    def __init__(self, console: Console, read: Callable[[], Any] | None = None) -> None:
        self._console = console
        self._read = read or read_line

    async def answer(self, question: Question) -> Any:
        """The answer to a question, checked.

        Raises:
            Later: the input ended (Ctrl-D).
        """
        self._print(question)
        while True:
            text = await self._line("answer: ")
            if not text and question.has_default:
                return question.default
            if not text and question.kind != "text":
                continue
            try:
                return given.answer(asked(question), _by_number(question, text))
            except AnswerRefusedError as error:
                self._say(f"{error.message}. {error.hint}".rstrip(), style="yellow")

    async def doubt(self, question: Question) -> tuple[str, Any]:
        """What became of a step: the resolution, and the value that it returned.

        Raises:
            Later: not now.
        """
        self._say(f"? {question.text}", style="bold")
        for key, meaning in (("d", "it happened (done)"), ("n", "it did not happen: try it again"), ("f", "it failed")):
            self._say(f"  {key}) {meaning}")
        while True:
            text = (await self._line("d, n, f, or nothing to decide later: ")).lower()
            if not text:
                raise Later
            if text in ("d", "done"):
                return "done", given.json_or_text(await self._line("what it returned (JSON or text): "))
            if text in ("n", "not done"):
                return "not_done", None
            if text in ("f", "fail"):
                return "fail", None

    def refused(self, message: str) -> None:
        """Say that an answer was not taken."""
        self._say(message, style="yellow")

    def _print(self, question: Question) -> None:
        self._say(f"? {question.text}", style="bold")
        for line in approval_lines(question):
            self._say(f"  {line}")
        for number, choice in enumerate(question.choices, 1):
            self._say(f"  {number}) {choice}")
        terms = ["several, with commas between them"] if question.kind == "multiple" else []
        terms += [f"{given.DECLINE!r} declines"] if question.declinable else []
        terms += ["yes or no"] if question.kind == "confirm" else []
        terms += [f"default: {preview(question.default)}"] if question.has_default else []
        if question.deadline_ms is not None:
            terms.append(f"closes {until(question.deadline_ms, now_ms())}")
        if terms:
            self._say(f"  ({'; '.join(terms)})", style="dim")

    def _say(self, text: str, *, style: str = "", end: str = "\n") -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style), end=end)

    async def _line(self, prompt: str) -> str:
        self._say(prompt, end="")
        text = await self._read()
        if text is None:
            self._say("")
            raise Later
        return str(text).strip()


def _by_number(question: Question, text: str) -> str:
    """Choices may be named by their number, unless a choice is that number itself."""

    def named(one: str) -> str:
        one = one.strip()
        if one in question.choices or not one.isdecimal() or not 1 <= int(one) <= len(question.choices):
            return one
        return question.choices[int(one) - 1]

    if question.kind == "choice":
        return named(text)
    if question.kind == "multiple" and not text.startswith("["):
        return ",".join(named(one) for one in text.split(",") if one.strip())
    return text


async def read_line() -> str | None:
    """A line of the terminal's input; `None` at its end. Cancelling it leaves the input as it is."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bytes] = loop.create_future()
    descriptor = sys.stdin.fileno()

    def ready() -> None:
        if not future.done():
            future.set_result(os.read(descriptor, 65536))

    loop.add_reader(descriptor, ready)
    try:
        data = await future
    finally:
        loop.remove_reader(descriptor)
    return data.decode(sys.stdin.encoding or "utf-8", "replace").rstrip("\r\n") if data else None
