"""Answering the questions that a run and its children ask, while it is executed here.

In this order: with the answers that the command line was given; by asking at the terminal; with the question's default.
A question that none of these settles stays open. One that asks to approve something is answered at the terminal alone:
whoever gave an answer beforehand, or a default, has not seen it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from perdure.cli import given
from perdure.cli.account import preview
from perdure.cli.output import Output
from perdure.cli.prompts import Later, Prompter
from perdure.cli.sending import asked
from perdure.core.errors import AnswerRefusedError, InputTypeError, StateError, ValueRefusedError
from perdure.engine.runtime import Runtime
from perdure.engine.watching import Question
from perdure.journal.state import TERMINAL
from perdure.store.port import RunRow

DEFAULT_ACTOR: Final = "service:perdure-run"
"""Who answers with a default because nobody can be asked."""


class Answering:
    """Answers questions.

    Args:
        runtime: brings the answers.
        output: for notes.
        answers: given beforehand, in the order of the questions.
        prompter: asks at the terminal; `None` without one.
        hiding: what hides the live display meanwhile.
        declined: called when the person does not want to answer now.
        woken: called when an answer was given.
    """

    def __init__(
        self,
        runtime: Runtime,
        output: Output,
        answers: Sequence[str],
        prompter: Prompter | None,
        *,
        hiding: Callable[[], AbstractContextManager[None]] = nullcontext,
        declined: Callable[[], None],
        woken: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._output = output
        self._answers = deque(answers)
        self._prompter = prompter
        self._hiding = hiding
        self._declined = declined
        self._woken = woken
        self._known: dict[str, Question] = {}
        self._left: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._asked: Question | None = None

    @property
    def busy(self) -> bool:
        """Whether somebody is being asked."""
        return self._task is not None and not self._task.done()

    @property
    def unused(self) -> list[str]:
        """Answers that no question was there for."""
        return list(self._answers)

    async def look(self, tree: Sequence[RunRow]) -> bool:
        """Answer what is open; returns whether something was answered.

        Raises:
            AnswerRefusedError: an answer that was given beforehand does not fit its question.
        """
        if self._task is not None and self._task.done():
            task, self._task, self._asked = self._task, None, None
            task.result()
        questions = await self._open(tree)
        if self.busy and self._asked is not None and self._key(self._asked) not in map(self._key, questions):
            await self.stop()
            self._output.note("(the question was settled elsewhere)")
        answered = False
        for question in questions:
            if self._key(question) not in self._left and not self.busy:
                answered = await self._settle(question) or answered
        return answered

    async def stop(self) -> None:
        """Ask nobody any more."""
        task, self._task, self._asked = self._task, None, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _open(self, tree: Sequence[RunRow]) -> list[Question]:
        """Open questions of the tree, oldest first within each run."""
        found = []
        for row in tree:
            if row.status in TERMINAL or row.status == "paused":
                continue
            places = await self._runtime.store.open_waits(kind="question", run_id=row.run_id)
            if any(f"{row.run_id}/{place.wait.wait_id}" not in self._known for place in places):
                for question in await self._runtime.questions(row.run_id):
                    self._known[self._key(question)] = question
            keys = [f"{row.run_id}/{place.wait.wait_id}" for place in places]
            found += [self._known[key] for key in keys if key in self._known]
        return found

    @staticmethod
    def _key(question: Question) -> str:
        return f"{question.run_id}/{question.wait_id}"

    # --- one question -------------------------------------------------------------------------------------------------

    async def _settle(self, question: Question) -> bool:
        """Answer a question, or begin to ask; returns whether it was answered."""
        # Nothing is approved that was not looked at.
        blind = question.kind != "doubt" and question.hash is None
        if blind and self._answers:
            value = self._given(question)
            return await self._answer(question, value, "person", "answered as given")
        if self._prompter is not None:
            self._asked = question
            self._task = asyncio.ensure_future(self._ask(self._prompter, question))
            self._task.add_done_callback(lambda _: self._woken())
            return False
        if blind and question.has_default:
            return await self._answer(question, question.default, DEFAULT_ACTOR, "took its default")
        if question.hash is not None:
            self._output.note(f"question {question.text!r} stays open: nobody here has seen what is to be approved")
        self._left.add(self._key(question))
        return False

    def _given(self, question: Question) -> Any:
        """The next answer that was given beforehand, as its question wants it."""
        try:
            value = given.answer(asked(question), self._answers[0])
        except AnswerRefusedError as error:
            error.hint = f"{error.hint}; run {question.run_id} goes on waiting".removeprefix("; ")
            error.ids |= {"run_id": question.run_id, "wait_id": question.wait_id}
            raise
        self._answers.popleft()
        return value

    async def _answer(self, question: Question, value: Any, actor: str, how: str) -> bool:
        try:
            await self._runtime.answer(question.run_id, value, wait_id=question.wait_id, actor=actor)
        except StateError:
            return True  # somebody was quicker
        self._output.note(f"question {question.text!r} {how}: {preview(value)}")
        return True

    async def _ask(self, prompter: Prompter, question: Question) -> None:
        """Ask at the terminal, and bring the answer."""
        try:
            with self._hiding():
                if question.kind == "doubt":
                    await self._ask_about_doubt(prompter, question)
                else:
                    value = await prompter.answer(question)
                    await self._runtime.answer(question.run_id, value, wait_id=question.wait_id, saw=question.hash)
        except Later:
            self._left.add(self._key(question))
            self._declined()
        except StateError:
            self._output.note("(the question was settled elsewhere)")

    async def _ask_about_doubt(self, prompter: Prompter, question: Question) -> None:
        while True:
            resolution, value = await prompter.doubt(question)
            try:
                await self._runtime.resolve(question.run_id, resolution, step=question.wait_id, value=value)
                return
            except (InputTypeError, ValueRefusedError) as error:
                prompter.refused(f"{error.message}. {error.hint}")
