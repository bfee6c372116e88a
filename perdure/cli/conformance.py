"""`perdure-conformance`: the dialect for suites from outside. One JSON value on standard output."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from perdure.cli.given import answer as answer_of
from perdure.cli.output import to_json
from perdure.cli.sending import asked
from perdure.core.canonical import parse_strict
from perdure.core.errors import PerdureError, ValueRefusedError
from perdure.core.events import Event
from perdure.core.pipeline_errors import PipelineInvalidError, PipelineSyntaxError
from perdure.engine.handle import RunHandle
from perdure.engine.large import resolved
from perdure.engine.loading import load_state
from perdure.engine.runtime import Runtime
from perdure.journal.state import TERMINAL, RunState
from perdure.pipeline.definition import Pipeline, read_pipeline
from perdure.pipeline.document import Attribute, Document
from perdure.pipeline.handlers import handler
from perdure.pipeline.syntax import parse
from perdure.pipeline.transforms import prepare
from perdure.pipeline.validation import validate_text
from perdure.pipeline.views import artifacts_of, checkpoint_of, context_of, ending_of, path_of

OK, REFUSED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; those of the process if omitted.

    Returns:
        0 ok, 1 a refused graph or a failed run, 2 wrong use.
    """
    given = _parser().parse_args(arguments)
    code: int
    value: Any
    try:
        code, value = given.perform(given)
    except PipelineSyntaxError as error:
        code, value = REFUSED, {"error": {"message": error.message, "line": error.line, "column": error.column}}
    except PipelineInvalidError as error:
        code, value = REFUSED, {"error": {"message": error.message}, "diagnostics": error.diagnostics}
    except PerdureError as error:
        code, value = USAGE, {"error": error.to_dict()}
    print(to_json(value))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="perdure-conformance", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    parsing = verbs.add_parser("parse", help="the graph as it was read")
    parsing.add_argument("file", type=Path)
    parsing.add_argument("--prepared", action="store_true", help="after the transforms")
    parsing.set_defaults(perform=_parse)
    validating = verbs.add_parser("validate", help="what is wrong with it")
    validating.add_argument("file", type=Path)
    validating.set_defaults(perform=_validate)
    running = verbs.add_parser("run", help="execute it, without a person: a question takes its default")
    running.add_argument("file", type=Path)
    running.add_argument("--context", default="{}", metavar="JSON", help="the initial context")
    running.add_argument("--artifacts", type=Path, metavar="DIR", help="write the artifacts there")
    running.add_argument("--answer", action="append", default=[], metavar="VALUE", help="of the questions, in order")
    running.set_defaults(perform=_run)
    verbs.add_parser("list-handlers", help="the types of handlers").set_defaults(perform=_list_handlers)
    return parser


Result = tuple[int, Any]


def _list_handlers(given: argparse.Namespace) -> Result:
    return OK, handler.types()


# --- parse and validate -----------------------------------------------------------------------------------------------


def _parse(given: argparse.Namespace) -> Result:
    document = parse(read_pipeline(given.file))
    return OK, _document_data(prepare(document) if given.prepared else document)


def _document_data(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "graph_attrs": _attributes(document.attributes),
        "nodes": [{"id": node.id, "attrs": _attributes(node.attributes)} for node in document.nodes.values()],
        "edges": [
            {"from": edge.start, "to": edge.end, "attrs": _attributes(edge.attributes)} for edge in document.edges
        ],
    }


def _attributes(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    return {
        key: str(attribute.value) if isinstance(attribute.value, str) else attribute.value
        for key, attribute in attributes.items()
    }


def _validate(given: argparse.Namespace) -> Result:
    found = validate_text(read_pipeline(given.file), registered=handler.types())
    refused = any(diagnostic.severity == "error" for diagnostic in found)
    return REFUSED if refused else OK, {"diagnostics": [diagnostic.to_dict() for diagnostic in found]}


# --- run --------------------------------------------------------------------------------------------------------------


def _run(given: argparse.Namespace) -> Result:
    try:
        context = parse_strict(given.context)
    except ValueRefusedError as error:
        return USAGE, {"error": {"message": f"--context: {error.message}"}}
    return asyncio.run(_executed(Pipeline.load(given.file), context, given.answer, given.artifacts))


async def _executed(pipeline: Pipeline, context: object, answers: Sequence[str], artifacts: Path | None) -> Result:
    with tempfile.TemporaryDirectory(prefix="perdure-conformance-") as folder:
        async with Runtime(f"sqlite:///{folder}/runs.db", workflows=[pipeline]) as runtime:
            graph = pipeline.compile()
            handle = await runtime.start_bound(graph, graph.check_input(context))
            await _conduct(runtime, handle, list(answers))
            state = await _state(runtime, handle.id)
            events = [event async for event in handle.events(follow=False)]
            value = await _told(runtime, state, events)
            if artifacts is not None:
                await _write(runtime, value["artifacts"], artifacts)
    return OK if value["status"] == "success" else REFUSED, value


async def _state(runtime: Runtime, run_id: str) -> RunState:
    loaded = await load_state(runtime.store, run_id)
    assert loaded is not None
    return loaded[0]


async def _conduct(runtime: Runtime, handle: RunHandle[Any], answers: list[str]) -> None:
    """Answer what the run and its children ask until it ends; a question that nobody can answer cancels it."""
    async for _ in runtime.events():
        status = await handle.status()
        if status in TERMINAL:
            return
        if status == "paused":
            await handle.cancel(reason="it was parked")
        for question in await runtime.questions():
            with suppress(PerdureError):  # it was answered, or timed out, in the meantime
                if answers and question.kind != "doubt":
                    value = answer_of(asked(question), answers.pop(0))
                elif question.has_default:
                    value = question.default
                else:
                    await handle.cancel(reason=f"nobody can answer {question.text!r}")
                    continue
                await runtime.answer(question.run_id, value, wait_id=question.wait_id, saw=question.hash)


async def _told(runtime: Runtime, state: RunState, events: Sequence[Event]) -> dict[str, Any]:
    ending = ending_of(state)
    if ending["status"] == "cancelled":
        ending["failure_reason"] = ending["failure_reason"] or str(state.outcome().get("reason", ""))
    return {
        "run_id": state.run_id,
        "status": ending["status"],
        "path": path_of(events),
        "context": {name: await resolved(runtime.store, value) for name, value in context_of(state).items()},
        "checkpoint": checkpoint_of(state),
        "failure_reason": ending["failure_reason"],
        "completed_with_failures": ending["completed_with_failures"],
        "artifacts": artifacts_of(events),
    }


async def _write(runtime: Runtime, artifacts: Mapping[str, str], folder: Path) -> None:
    for path, sha in artifacts.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(await runtime.store.get_artifact(sha))


if __name__ == "__main__":
    sys.exit(main())
