"""Those outside of a run: who answers its questions, sends its signals, and finds out what became of its doubts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from perdure.core.errors import CrashMatrixError
from perdure.core.values import codec_for
from perdure.engine.runtime import Runtime
from perdure.engine.watching import Question
from perdure.testing.crash.witness import Line, Witness

DOUBT: Final = "doubt"
_CALL_LINES: Final = frozenset(("called", "effect", "returned", "raised"))


@dataclass(frozen=True, slots=True)
class Doubt:
    """A step in doubt, and what the witness knows of it.

    Attributes:
        run_id, scope, key, attempt: the call.
        happened: whether the world has changed, as far as the witness can tell.
        value: what the call returned, or returns when nothing crashes; JSON data.
        error: what the call raised, if it did.
    """

    run_id: str
    scope: str
    key: str
    attempt: int
    happened: bool
    value: Any = None
    error: str | None = None


@dataclass(slots=True)
class People:
    """Answers what the runs of a process wait for.

    Args:
        answers: to questions, by their text.
        signals: payloads, by the signal's name; each is sent when a run waits for it.
        respond: asked first, with a `Question` or a `Doubt`; returns the answer (for a doubt `"done"`, `"not_done"`,
            `"fail"`, or `("done", value)`), or `None` to leave it to the rest.
        reference: what was witnessed of the run that nothing disturbed.
    """

    answers: Mapping[str, Any] = field(default_factory=dict)
    signals: Mapping[str, Any] = field(default_factory=dict)
    respond: Callable[..., Any] | None = None
    reference: list[Line] = field(default_factory=list)

    async def help(self, runtime: Runtime, witness: Witness, lines: Callable[[], list[Line]]) -> bool:
        """Answer whatever can be answered now; whether there was anything.

        Args:
            lines: what was witnessed so far at this point.
        """
        helped = False
        for question in await runtime.questions():
            if question.kind == DOUBT:
                await self._resolve(runtime, witness, question, lines())
                helped = True
            else:
                helped |= await self._answer(runtime, witness, question)
        return await self._send(runtime, witness) or helped

    async def _answer(self, runtime: Runtime, witness: Witness, question: Question) -> bool:
        value = await self._asked(question)
        if value is None:
            value = self.answers.get(question.text)
        if value is None:
            if question.deadline_ms is not None:
                return False  # nobody answers, so it times out
            value = _obvious(question)
        command_id = f"answer-{question.wait_id}"
        await runtime.answer(question.run_id, value, wait_id=question.wait_id, saw=question.hash, command_id=command_id)
        witness.told("answered", run=question.run_id, wait=question.wait_id)
        return True

    async def _send(self, runtime: Runtime, witness: Witness) -> bool:
        sent = False
        for place in await runtime.store.open_waits(kind="signal"):
            name, match, wait_id = place.wait.name, place.wait.key, place.wait.wait_id
            if name in self.signals:
                sender = f"matrix-{wait_id}"
                await runtime.signal(name, self.signals[name], run_id=place.run_id, match=match, sender_id=sender)
                witness.told("signalled", run=place.run_id, sender=sender)
                sent = True
            elif place.wait.deadline_ms is None:
                raise CrashMatrixError(
                    f"run {place.run_id} waits for signal {name!r}", hint=f"say what is sent: signals={{{name!r}: …}}"
                )
        return sent

    async def _resolve(self, runtime: Runtime, witness: Witness, question: Question, lines: list[Line]) -> None:
        run_id = question.run_id
        state = await runtime.run(run_id).fold()
        wait = state.waits[question.wait_id]
        record = state.scopes[wait.scope][wait.key]
        doubt = _truth(run_id, wait.scope, wait.key, record.attempt, lines, self.reference)
        found = await self._asked(doubt)
        resolution, value = found if isinstance(found, tuple) else (found, doubt.value)
        if resolution is None:
            resolution = "done" if doubt.happened else "fail" if doubt.error is not None else "not_done"
        await runtime.resolve(run_id, resolution, step=question.wait_id, value=value)
        witness.told("resolved", run=run_id, scope=wait.scope, key=wait.key, resolution=resolution)

    async def _asked(self, what: Question | Doubt) -> Any:
        if self.respond is None:
            return None
        answer = self.respond(what)
        return await answer if inspect.isawaitable(answer) else answer


def _obvious(question: Question) -> Any:
    """What anybody would answer who only wants to get on."""
    if question.has_default:
        return question.default
    if question.kind == "confirm":
        return True
    if question.choices:
        return question.choices[0] if question.kind == "choice" else [question.choices[0]]
    return "text"


def _truth(run_id: str, scope: str, key: str, attempt: int, lines: list[Line], reference: list[Line]) -> Doubt:
    """What became of a call, by those who saw it.

    A call that recorded effects has happened when it recorded one. Of other calls nobody knows at which instant the
    world changes, so one that began counts as happened.
    """
    mine = [line for line in lines if _place(line) == (run_id, scope, key) and line["attempt"] == attempt]
    before = [line for line in reference if _place(line) == (run_id, scope, key)]
    seen = {line["what"]: line for line in mine}
    returned = seen.get("returned") or next((line for line in before if line["what"] == "returned"), None)
    value = None if returned is None or returned["result"] is None else _loaded(returned["result"])
    error = seen["raised"]["error"] if "raised" in seen else None
    if any(line["what"] == "effect" for line in (*before, *mine)):
        happened = "effect" in seen
    else:
        happened = "called" in seen and error is None
    return Doubt(run_id, scope, key, attempt, happened, value, error)


def _loaded(result: str) -> Any:
    return codec_for(Any).load_json(orjson.loads(result))


def _place(line: Line) -> tuple[str, str, str] | None:
    """The step that a line is about, if it is about the call of one."""
    return (line["run"], line["scope"], line["key"]) if line["what"] in _CALL_LINES else None
