"""What people's commands do: bring them to the run's journal, and say what follows from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from perdure.cli import given
from perdure.cli.approval import approval_lines
from perdure.cli.exits import COMPLETED, FAILED
from perdure.cli.explanation import answer_commands
from perdure.cli.output import Output
from perdure.cli.place import Place
from perdure.cli.times import instant, now_ms, until
from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError, PerdureError, StateError, StoreCorruptError
from perdure.core.ids import check_key, check_run_id, new_run_id
from perdure.engine.runtime import Runtime
from perdure.engine.watching import Question
from perdure.journal.questions import find_question
from perdure.journal.state import RunState, Wait

ANYONE: Final = "-"
"""Instead of a run: the one that waits for the signal."""
ID_BYTES: Final = 10
MOST_QUESTIONS: Final = 100_000


class Sender:
    """Brings one command to one run.

    Args:
        place: the store.
        output: where the outcome is printed.
        run_id: the run; `-` where the signal finds it.
        name: who sends it.
        command_id: under which a resend is recognised; drawn if omitted.
    """

    def __init__(self, place: Place, output: Output, run_id: str, name: str | None, command_id: str | None) -> None:
        self._place = place
        self._output = output
        self._run_id = run_id if run_id == ANYONE else check_run_id(run_id)
        self._actor = actor_of(name)
        self._command_id = check_key(command_id, field="command id") if command_id is not None else drawn_id()

    async def answer(self, text: str, wait_id: str | None, saw: str | None) -> int:
        """Answer a question; the text is read as the question's kind wants it."""
        async with self._place.commanding() as runtime:
            wait = self._question(await runtime.run(self._run_id).fold(), wait_id)
            asks = wait is not None and wait.data.get("subject") is None and "question" in wait.data
            value = given.answer(wait.data["question"], text) if wait is not None and asks else text
            await runtime.answer(
                self._run_id, value, wait_id=wait_id, saw=saw, actor=self._actor, command_id=self._command_id
            )
            return await self._sent(runtime, "answered", {"answer": value} | ({} if saw is None else {"saw": saw}))

    def _question(self, state: RunState, wait_id: str | None) -> Wait | None:
        """The question that the answer is for; of a resend the one that it was for, if the journal still tells it."""
        sent = state.commands.get(self._command_id)
        if sent is None:
            return find_question(state, wait_id)
        return state.waits.get((sent.data or {}).get("wait_id", ""))

    async def signal(self, name: str, payload: str | None, *, match: str | None, sender_id: str | None) -> int:
        """Send a signal."""
        value = given.strict_json(payload, field="--payload") if payload is not None else None
        async with self._place.commanding() as runtime:
            self._run_id = await runtime.signal(
                name,
                value,
                run_id=None if self._run_id == ANYONE else self._run_id,
                match=match,
                sender_id=sender_id,
                actor=self._actor,
                command_id=self._command_id,
            )
            return await self._sent(runtime, f"signal {name!r} sent", {"signal": name, "match": match})

    async def cancel(self, reason: str) -> int:
        """Cancel."""
        async with self._place.commanding() as runtime:
            await runtime.cancel(self._run_id, reason=reason, actor=self._actor, command_id=self._command_id)
            return await self._sent(runtime, "cancel asked for", {})

    async def pause(self) -> int:
        """Pause."""
        async with self._place.commanding() as runtime:
            await runtime.pause(self._run_id, actor=self._actor, command_id=self._command_id)
            return await self._sent(runtime, "paused", {})

    async def resume(self, *, accept_definition: bool) -> int:
        """Undo a pause."""
        async with self._place.commanding() as runtime:
            if accept_definition:
                accept_definition = _accepts(await runtime.run(self._run_id).fold(), self._place)
            await runtime.unpause(
                self._run_id, accept_definition=accept_definition, actor=self._actor, command_id=self._command_id
            )
            return await self._sent(runtime, "resumed", {})

    async def retry(self, reason: str) -> int:
        """Open an ended run again."""
        async with self._place.commanding() as runtime:
            await runtime.retry(self._run_id, reason=reason, actor=self._actor, command_id=self._command_id)
            return await self._sent(runtime, "opened again", {})

    async def resolve(self, step: str | None, resolution: str, done: str | None) -> int:
        """Say what became of a step in doubt."""
        value = given.json_or_text(done) if done is not None else None
        async with self._place.commanding() as runtime:
            await runtime.resolve(
                self._run_id, resolution, step=step, value=value, actor=self._actor, command_id=self._command_id
            )
            return await self._sent(runtime, f"resolved as {resolution.replace('_', ' ')}", {"resolution": resolution})

    async def _sent(self, runtime: Runtime, what: str, data: dict[str, Any]) -> int:
        """Say what was done, how the run stands now, and who goes on with it."""
        row = await runtime.run(self._run_id).row()
        if self._output.json:
            self._output.value({"run_id": row.run_id, "status": row.status, "command_id": self._command_id} | data)
            return 0
        self._output.note(f"run {row.run_id}: {what}; it is {row.status} now")
        if row.status not in ("pending", "running") or row.caller_owned:
            return 0
        workers = [worker for worker in await runtime.store.workers() if worker.alive and not worker.draining]
        if row.owner not in {worker.worker_id for worker in workers} and not any(
            row.workflow in worker.workflows for worker in workers
        ):
            commands = self._place.executing("FILE", row.run_id)[:1]
            told = "; go on with it:" if commands else ""
            self._output.note(f"no live worker has loaded workflow {row.workflow!r}{told}")
            for command in commands:
                self._output.note(f"  {command}")
        return 0


def _accepts(state: RunState, place: Place) -> bool:
    """Whether there is a changed definition to accept; a run that is not paused is refused by whoever resumes it.

    Raises:
        StateError: the run is paused for something else.
    """
    if state.paused is None:
        return False
    if state.detail.get("loaded") is not None:
        return True
    if state.reason == "definition_changed":
        message, hint = "its recorded input does not fit the new definition", "put the old definition back, then resume"
    else:
        message = "it is paused" if state.reason == "paused" else f"it is parked for another reason: {state.reason}"
        hint = f"let it go on with '{place.command('resume', state.run_id)}'"
    raise StateError(f"run {state.run_id} has no definition to accept: {message}", hint=hint, run_id=state.run_id)


def actor_of(name: str | None) -> str:
    """The actor of a person's command: `person`, or `person:NAME`.

    Raises:
        InvalidIdError: the name is outside the grammar of keys.
    """
    return "person" if name is None else f"person:{check_key(name, field='name')}"


def drawn_id() -> str:
    """A new command id."""
    return f"cli-{new_run_id(now_ms(), os.urandom(ID_BYTES))}"


# --- questions --------------------------------------------------------------------------------------------------------


async def list_questions(place: Place, output: Output, run_id: str | None) -> int:
    """List open questions."""
    async with place.reading() as runtime:
        if run_id is not None:
            await runtime.run(run_id).row()
        found, damaged = await _all_questions(runtime) if run_id is None else (await runtime.questions(run_id), [])
    if output.json:
        output.value([question_data(place, question) for question in found])
    else:
        _print_questions(place, output, found, none=not damaged)
    for error in damaged:
        output.failure(error)
    return FAILED if damaged else COMPLETED


async def _all_questions(runtime: Runtime) -> tuple[list[Question], list[PerdureError]]:
    """The open questions of all runs, and what is wrong with the runs that cannot be read."""
    found: list[Question] = []
    damaged: list[PerdureError] = []
    waits = await runtime.store.open_waits(kind="question", limit=MOST_QUESTIONS)
    for run_id in dict.fromkeys(wait.run_id for wait in waits):
        try:
            found += await runtime.questions(run_id)
        except (ArtifactNotFoundError, CorruptRecordError, StoreCorruptError) as error:
            error.ids.setdefault("run_id", run_id)
            damaged.append(error)
    order = {(wait.run_id, wait.wait.wait_id): place for place, wait in enumerate(waits)}
    found.sort(key=lambda question: order.get((question.run_id, question.wait_id), len(order)))
    return found, damaged


def _print_questions(place: Place, output: Output, found: Sequence[Question], *, none: bool) -> None:
    now = now_ms()
    for question in found:
        output.line(f"{question.run_id} ({question.workflow}): {question.text}")
        for line in (*approval_lines(question), *_terms(question, now)):
            output.line(f"    {line}")
        for command in question_commands(place, question):
            output.line(f"    $ {command}")
    if not found and none:
        output.note("no open questions")


def question_commands(place: Place, question: Question) -> list[str]:
    """The commands that answer a question, each naming it."""
    if question.kind == "doubt":
        step = question.step or ""
        return [
            place.command("resolve", question.run_id, step, "--done", "VALUE"),
            place.command("resolve", question.run_id, step, "--not-done"),
            place.command("resolve", question.run_id, step, "--fail"),
        ]
    return answer_commands(place, question.run_id, asked(question), question.wait_id)


def asked(question: Question) -> dict[str, Any]:
    """A question in the form in which it is recorded."""
    return {
        "kind": question.kind,
        "text": question.text,
        "choices": list(question.choices),
        "keys": list(question.keys),
        "hash": question.hash,
        "declinable": question.declinable,
    }


def question_data(place: Place, question: Question) -> dict[str, Any]:
    """A question as plain JSON data."""
    return {
        "run_id": question.run_id,
        "wait_id": question.wait_id,
        "workflow": question.workflow,
        "text": question.text,
        "kind": question.kind,
        "choices": list(question.choices),
        "deadline_ms": question.deadline_ms,
        "has_default": question.has_default,
        "default": question.default,
        "step": question.step,
        "approve": question.approve,
        "hash": question.hash,
        "declinable": question.declinable,
        "commands": question_commands(place, question),
    }


def _terms(question: Question, now: int) -> list[str]:
    lines = [f"choices: {', '.join(question.choices)}"] if question.choices else []
    if question.has_default:
        lines.append(f"default: {question.default}")
    if question.deadline_ms is not None:
        lines.append(f"open until {instant(question.deadline_ms)} ({until(question.deadline_ms, now)})")
    return lines
