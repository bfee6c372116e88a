"""What a handler is given: one execution of one stage, and what it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from perdure.core.canonical import JSONValue
from perdure.engine.context import Artifact
from perdure.engine.run import Run
from perdure.pipeline.blueprint import Blueprint, Place, Way
from perdure.pipeline.outcome import Outcome
from perdure.pipeline.run_context import StageContext
from perdure.pipeline.settings import NodeSettings

if TYPE_CHECKING:
    from perdure.pipeline.definition import Pipeline
    from perdure.pipeline.journey import Journey

MARKDOWN: Final = "text/markdown; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Ended:
    """A stage that has ended, as the next one sees it.

    Args:
        node: its id.
        outcome: what it came to.
    """

    node: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Stage:
    """One execution of one stage.

    Attributes:
        run: for steps, questions, sleeps, children; whatever touches the world goes through it.
        place: the node, its settings and the edges that leave it.
        context: of the run, or of the branch.
        journey: the strand of stages that this one belongs to.
        visit: which visit of the node this is, from 1.
        attempt: which execution within the visit, from 1.
        previous: the stage before it, if there was one.
        entered_by: the edge that led here, if one did.
    """

    run: Run
    place: Place
    context: StageContext
    journey: Journey
    visit: int
    attempt: int
    previous: Ended | None
    entered_by: Way | None

    @property
    def id(self) -> str:
        """The node's id."""
        return self.place.id

    @property
    def settings(self) -> NodeSettings:
        """What the node says."""
        return self.place.settings

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The node's attributes by key, as the file and the transforms have them."""
        return {key: attribute.value for key, attribute in self.place.node.attributes.items()}

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that the stage belongs to."""
        return self.journey.pipeline

    @property
    def blueprint(self) -> Blueprint:
        """The pipeline, ready to be executed."""
        return self.journey.blueprint

    def keep(self, name: str, data: bytes | str, media_type: str | None = None) -> Artifact:
        """Keep an artifact of the stage, under `<node>/visit-<n>/<name>`.

        Args:
            name: of a file, for example `report.md`.
            data: its content.
            media_type: guessed from what `data` is, if omitted.
        """
        kind = "file" if isinstance(data, bytes) else "text"
        return self.run.put(data, name=f"{self.id}/visit-{self.visit}/{name}", media_type=media_type, kind=kind)


HandlerResult: TypeAlias = Outcome | str | Mapping[str, JSONValue] | None
Handler: TypeAlias = Callable[[Stage], Awaitable[HandlerResult]]
"""Executes a stage. Text is the output of a stage that succeeded, a mapping holds the fields of an outcome."""
