"""What `perdure run` is asked for, and whether it can be done: all that is checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from perdure.cli import given
from perdure.cli.definitions import definition_of, definitions_beside, named_in
from perdure.cli.place import Place
from perdure.core.errors import (
    InputError,
    InputTypeError,
    RunConflictError,
    SecretLeakError,
    StoreNotFoundError,
)
from perdure.core.ids import check_run_id, check_tag
from perdure.core.secrets import payload_secret_shape
from perdure.engine.large import resolved
from perdure.store.port import Durability, RunRow
from perdure.workflow.graph import Definition, Graph

DURABILITIES: Final = ("full", "process")


@dataclass(frozen=True, slots=True)
class Order:
    """What `perdure run` was asked for; see its options."""

    file: str
    inputs: tuple[str, ...] = ()
    input_file: str | None = None
    run_id: str | None = None
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    detach: bool = False
    patience: str | None = None
    durability: str = "full"

    @property
    def has_input(self) -> bool:
        """Whether any input was given."""
        return bool(self.inputs) or self.input_file is not None


@dataclass(slots=True)
class Prepared:
    """An order that was found sound, before anything was written.

    Attributes:
        definitions: all of the file.
        graph: what is to be run.
        raw: the input; `None` to go on with what is recorded.
        row: of the run, if it exists.
    """

    definitions: Sequence[Definition]
    graph: Graph
    raw: dict[str, Any] | None
    row: RunRow | None


async def prepare(place: Place, order: Order) -> Prepared:
    """Load the file and check all that was given.

    Raises:
        PerdureError: something is wrong with it; nothing was written.
    """
    definitions = definitions_beside(order.file)
    tree = given.inputs(order.inputs, order.input_file) if order.has_input else None
    for tag in order.tags:
        check_tag(tag)
    store = place.store(must_exist=False)
    row = await _existing(place, order.run_id) if order.run_id is not None else None
    graph = _choose(order.file, definitions, row).compile()
    if row is not None and tree is None:
        return Prepared(definitions, graph, None, row)
    raw = _checked(graph, tree, order)
    if row is not None:
        await _check_same_input(place, graph, raw, row)
    elif place.file(store) is None and order.detach:
        raise InputError("a run in memory ends with this process", hint="--detach needs another store", url=place.url)
    return Prepared(definitions, graph, raw, row)


async def _existing(place: Place, run_id: str) -> RunRow | None:
    check_run_id(run_id)
    try:
        async with place.reading() as runtime:
            return await runtime.store.get_run(run_id)
    except StoreNotFoundError:
        return None


def _choose(spec: str, definitions: Sequence[Definition], row: RunRow | None) -> Definition:
    """The workflow that is meant: that of the run, if it exists."""
    if row is None:
        return definitions[0] if len(definitions) == 1 else definition_of(spec)
    found = [one for one in definitions if one.name == row.workflow]
    if (named_in(spec) is not None and definition_of(spec).name != row.workflow) or not found:
        raise RunConflictError(
            f"run {row.run_id!r} is a run of workflow {row.workflow!r}",
            hint="give the file that has this workflow, or choose another id",
            run_id=row.run_id,
            workflow=row.workflow,
        )
    return found[0]


def _checked(graph: Graph, tree: dict[str, Any] | None, order: Order) -> dict[str, Any]:
    """The raw input, checked as it will be when it is recorded."""
    try:
        raw = graph.check_input(tree)
    except InputTypeError as error:
        raise given.explain_text_input(error, order.inputs) from error
    shape = payload_secret_shape(graph.dump_input(raw))
    if shape is not None:
        raise SecretLeakError(f"the input of {graph.name!r} has the shape of a secret ({shape})", workflow=graph.name)
    graph.resolve_skip_tags(order.skip_tags)
    return raw


async def _check_same_input(place: Place, graph: Graph, raw: dict[str, Any], row: RunRow) -> None:
    async with place.reading() as runtime:
        events = await runtime.store.read(row.run_id, until=1)
        data = events[0].data if events else None
        recorded = (
            {name: await resolved(runtime.store, value) for name, value in data["input"].items()}
            if data is not None
            else None
        )
    if recorded != orjson.loads(graph.dump_input(raw)):
        raise RunConflictError(
            f"run {row.run_id!r} was started with another input",
            hint="leave the input out to go on with what is recorded, or choose another id",
            run_id=row.run_id,
        )


def check_durability(text: str) -> Durability:
    """The durability that a text names; raises `InputError`."""
    if text not in DURABILITIES:
        raise InputError(f"--durability {text!r} is none of {', '.join(DURABILITIES)}", field="durability")
    return cast("Durability", text)
