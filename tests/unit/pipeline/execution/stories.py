"""Pipelines that are really run: stages that do what a test says, and what a run came to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perdure import RunHandle, Runtime, step
from perdure.core.errors import RunFailed
from perdure.core.events import Event
from perdure.pipeline.definition import Pipeline
from perdure.pipeline.handler_types import CODERGEN
from perdure.pipeline.handlers import Handlers, handler
from perdure.pipeline.outcome import Outcome
from perdure.pipeline.stage import HandlerResult, Stage
from perdure.store.port import Store
from tests.unit.engine.evidence import check_journals
from tests.unit.engine.staging import StageClock, journal, memory, quick, seen

FAIL = Outcome("fail", failure_reason="told to fail")
AGAIN = Outcome("retry", failure_reason="told to try again")
FOR_GOOD = Outcome("fail", failure_reason="told to fail for good", retryable=False)


def dot(body: str, graph: str = "") -> str:
    """The text of a pipeline with a start and an exit.

    Args:
        body: statements.
        graph: the graph's attributes, as statements.
    """
    return f"digraph G {{ {graph}\n start; exit;\n {body} }}"


class Script:
    """What the boxes of a pipeline come to, execution by execution; a box of which nothing is said succeeds.

    Args:
        outcomes: by node: what it comes to, or a list with one for each execution, of which the last one stays;
            an async function of the stage may do more.

    Attributes:
        calls: `node#visit@attempt` for each execution, whatever worker it was in.
        seen: by the same, the context when the stage was executed.
    """

    def __init__(self, **outcomes: Any) -> None:
        self._outcomes = outcomes
        self.calls: list[str] = []
        self.seen: dict[str, dict[str, Any]] = {}

    def nodes(self) -> list[str]:
        """The nodes that were executed."""
        return [call.partition("#")[0] for call in self.calls]

    def handlers(self) -> Handlers:
        """Those of the dialect, with this script in the place of the model."""
        return Handlers({**handler, CODERGEN: self._executed})

    async def _executed(self, stage: Stage) -> HandlerResult:
        told = self._outcomes.get(stage.id, Outcome())
        call = f"{stage.id}#{stage.visit}@{stage.attempt}"
        self.seen[call] = dict(stage.context.view)

        @step(kind="idempotent", name="execute")
        async def execute() -> int:
            """The execution is a fact: a replay finds it done."""
            before = self.nodes().count(stage.id)
            self.calls.append(call)
            return before

        number = await stage.run.step(execute)
        if isinstance(told, Sequence) and not isinstance(told, str):
            told = told[min(number, len(told) - 1)]
        if isinstance(told, Exception):
            raise told
        if callable(told):
            told = await told(stage)
        result: HandlerResult = told
        return result


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Args:
        output: of a completed run.
        error: of a failed one.
        events: its journal.
    """

    output: dict[str, Any] | None
    error: RunFailed | None
    events: list[Event]

    @property
    def path(self) -> list[str]:
        """The nodes that were visited at the top level."""
        return path_of(self.events)

    @property
    def context(self) -> dict[str, Any]:
        """The last one, of a completed run."""
        assert self.output is not None, self.error
        found: dict[str, Any] = self.output["context"]
        return found

    @property
    def code(self) -> str:
        """Of the error, of a failed run."""
        assert self.error is not None, self.output
        return next(str(event.data["error"]["code"]) for event in self.events if event.kind == "run.failed")

    @property
    def reason(self) -> str:
        """What the error says."""
        assert self.error is not None, self.output
        return self.error.message

    def files(self) -> dict[str, str]:
        """The artifact ids by name."""
        return {event.data["name"]: event.data["artifact"] for event in self.events if event.kind == "artifact.put"}


def writes_of(events: Sequence[Event], name: str) -> list[Any]:
    """What was written under a name at the top of the context, in order."""
    found = []
    for event in events:
        if event.kind == "state.written":
            values = event.data.get("values", {event.data.get("name"): event.data.get("value")})
            found += [values[name]] if name in values else []
    return found


def path_of(events: Sequence[Event]) -> list[str]:
    """The nodes that were entered, once for each visit."""
    entered = [str(event.node) for event in events if event.kind in ("node.entered", "run.continued")]
    # A visit that a crash cut off is entered again; a loop that restarts counts visits anew.
    return [node.partition("#")[0] for node, _ in itertools.groupby(entered) if node != "None"]


def pipeline(body: str, script: Script | None = None, *, graph: str = "", **options: Any) -> Pipeline:
    """A pipeline whose boxes follow a script, if one is given."""
    if script is not None:
        options["handlers"] = script.handlers()
    return Pipeline.parse(dot(body, graph), **options)


async def ended(
    what: Pipeline | str,
    script: Script | None = None,
    *,
    graph: str = "",
    given: Mapping[str, Any] | None = None,
    answers: Sequence[Any] = (),
    clock: StageClock | None = None,
    store: Store | None = None,
    **options: Any,
) -> Ending:
    """Run a pipeline to its end, in virtual time.

    Args:
        what: the pipeline, or the body of its text.
        given: its input.
        answers: to its questions, in their order.
    """
    made = what if isinstance(what, Pipeline) else pipeline(what, script, graph=graph, **options)
    clock = clock or StageClock()
    where = store or memory()
    async with Runtime(where, workflows=[made], clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made, **(given or {}))
        people = asyncio.ensure_future(_answer(handle, answers))
        try:
            result = await ending(handle, clock)
        finally:
            people.cancel()
    await check_journals(where)
    return result


async def ending(handle: RunHandle[Any], clock: StageClock | None = None) -> Ending:
    """Wait for the end of a run."""
    try:
        output = await (handle.result() if clock is None else clock.until(handle.result()))
    except RunFailed as error:
        return Ending(None, error, await journal(handle))
    return Ending(output, None, await journal(handle))


async def _answer(handle: RunHandle[Any], answers: Sequence[Any]) -> None:
    for number, answer in enumerate(answers, 1):
        await seen(handle, "wait.opened", number)
        await handle.answer(answer)
