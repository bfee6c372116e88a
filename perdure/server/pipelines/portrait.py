"""A pipeline's run as its journal tells it: state, records, checkpoint, artifacts, and who answered its gates.

Fed with events, it is never asked to look anything up. All views of `/pipelines` are functions of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from perdure.core import kinds
from perdure.core.events import Event
from perdure.journal.fold import fold
from perdure.journal.state import RunState
from perdure.pipeline.blueprint import Blueprint
from perdure.server.pipelines.artifacts import ArtifactEntry, entries_of
from perdure.server.pipelines.questions import GateQuestion
from perdure.server.pipelines.records import PipelineRecords, Record


@dataclass(slots=True)
class Checkpoint:
    """Where a run stands after the stage that completed last.

    Attributes:
        current_node: that stage.
        next_node: where the run went from there; `None` where it ended.
        timestamp: when it completed, as the record says it.
        completed_nodes: one entry a visit, in order.
        outcomes: by node, what its newest visit came to.
    """

    current_node: str
    next_node: str | None
    timestamp: str
    completed_nodes: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Answered:
    """The newest answer of a gate.

    Attributes:
        question: that was answered.
        answer: as the journal holds it.
        node: the node and visit under which it was asked.
        scope: where it was asked.
        is_a_persons: a person gave it; false for what a timeout took instead.
    """

    question: GateQuestion
    answer: Any
    node: str
    scope: str
    is_a_persons: bool


class Portrait:
    """A run, up to the event that it was fed last.

    Args:
        run_id: the run.
        blueprint: of its pipeline; without it nobody knows where the options of questions lead.

    Attributes:
        state: folded.
        log: the records, in order.
        checkpoint: `None` until a stage completed.
        answered: by gate, its newest answer.
    """

    def __init__(self, run_id: str, blueprint: Blueprint | None = None) -> None:
        self.state = RunState(run_id)
        self.log: list[Record] = []
        self.checkpoint: Checkpoint | None = None
        self.answered: dict[str, Answered] = {}
        self._records = PipelineRecords(run_id, blueprint)
        self._artifacts: dict[str, ArtifactEntry] = {}
        self._statuses: dict[str, str] = {}
        self._before_failure: Checkpoint | None = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.state.run_id

    @property
    def questions(self) -> list[GateQuestion]:
        """Open questions, by id."""
        return [question for _, question in sorted(self._records.questions.items())]

    @property
    def artifacts(self) -> list[ArtifactEntry]:
        """What the run keeps, by path."""
        return [entry for _, entry in sorted(self._artifacts.items())]

    def feed(self, event: Event) -> None:
        """Take in the next event of the journal."""
        self._note_answer(event)
        if event.kind == kinds.RUN_REOPENED:
            self._take_back(event)
        made = self._records.feed(event)
        self.log += made
        for record in made:
            self._note_record(event, record)
        if event.kind == kinds.ARTIFACT_PUT and event.data is not None:
            self._artifacts.update(entries_of(event, self._artifacts))
        fold(self.state, event)

    def _note_answer(self, event: Event) -> None:
        if event.kind not in (kinds.WAIT_ANSWERED, kinds.WAIT_RESOLVED) or event.data is None:
            return
        question = self._records.questions.get(event.data["wait_id"])
        wait = self.state.waits.get(event.data["wait_id"])
        if question is None or wait is None:
            return
        by_person = event.kind == kinds.WAIT_ANSWERED
        answer = event.data.get("answer" if by_person else "value")
        self.answered[question.stage] = Answered(question, answer, wait.node, wait.scope, by_person)

    def _note_record(self, event: Event, record: Record) -> None:
        kind = record["type"]
        if kind == "CheckpointSaved":
            self._save(event, record)
        elif kind in ("StageCompleted", "StageFailed") and "branch" not in record and not record.get("will_retry"):
            self._statuses[record["name"]] = status = record.get("status", "fail")
            if self.checkpoint is not None and record["name"] in self.checkpoint.outcomes:
                self.checkpoint.outcomes[record["name"]] = status

    def _take_back(self, event: Event) -> None:
        """A retry forgets the visit that ended the run: it has not completed then."""
        forgets = (event.data or {}).get("forgets") or {}
        if forgets.get("nodes") and self._before_failure is not None:
            self.checkpoint = self._before_failure if self._before_failure.completed_nodes else None
        self._before_failure = None
        gone = {(scope, key) for scope, key in forgets.get("records") or ()}
        for gate, answered in list(self.answered.items()):
            wait = self.state.waits.get(answered.question.id)
            if wait is not None and (wait.scope, wait.key) in gone:
                del self.answered[gate]

    def _save(self, event: Event, record: Record) -> None:
        node, following = record["node_id"], (event.data or {}).get("next") or ()
        self._before_failure = None
        if "error" in ((event.data or {}).get("end") or ()):
            last = self.checkpoint or Checkpoint("", None, "")
            self._before_failure = replace(
                last, completed_nodes=list(last.completed_nodes), outcomes=dict(last.outcomes)
            )
        checkpoint = self.checkpoint = self.checkpoint or Checkpoint(node, None, "")
        checkpoint.current_node, checkpoint.next_node = node, next(iter(following), None)
        checkpoint.timestamp = record["timestamp"]
        checkpoint.completed_nodes.append(node)
        # What it came to stands in the record before this one where it failed, else in the one behind.
        checkpoint.outcomes[node] = self._statuses.get(node, "success")
