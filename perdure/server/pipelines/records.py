"""The events of a pipeline: a fold over the journal that gives records with a number of their own.

The number is a function of the journal alone. Who reads from the beginning, who reads live and who comes back after a
restart count alike; so a record is found again by its number, and no table of records is kept anywhere.

The fold is incremental: it is given each event once, in order, and says which records the event made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from perdure.core import kinds
from perdure.core.events import Event
from perdure.pipeline.blueprint import Blueprint
from perdure.pipeline.outcome import SATISFIED
from perdure.pipeline.stage_events import STAGE_ENDED, STAGE_ENTERED, STAGE_FAILED
from perdure.server.pipelines.answers import recorded_answer
from perdure.server.pipelines.names import graph_name
from perdure.server.pipelines.questions import GateQuestion, is_gate, question_of
from perdure.server.pipelines.times import iso

Record = dict[str, Any]

CHECKPOINT_RESUME: Final = "checkpoint_resume"
RETRY: Final = "retry"

_STATUS: Final = {kinds.RUN_COMPLETED: "success", kinds.RUN_FAILED: "fail", kinds.RUN_CANCELLED: "cancelled"}


@dataclass(frozen=True, slots=True)
class _Visit:
    name: str
    index: int
    branch: str | None = None


class _Strand:
    """One branch of a fan-out: the stage that began it, the one that runs, and what the last one came to."""

    def __init__(self, first: str, place: int) -> None:
        self.first = first
        self.place = place
        self.visit: _Visit | None = None
        self.status = ""


class _FanOut:
    def __init__(self, name: str) -> None:
        self.name = name
        self.strands: dict[str, _Strand] = {}


class PipelineRecords:
    """Gives the records that events make.

    Args:
        pipeline_id: the run's id.
        blueprint: of its pipeline, for where the options of questions lead.

    Attributes:
        count: the sequence of the last record.
        questions: that are open, by id.
    """

    def __init__(self, pipeline_id: str, blueprint: Blueprint | None = None) -> None:
        self.pipeline_id = pipeline_id
        self.count = 0
        self.questions: dict[str, GateQuestion] = {}
        self._blueprint = blueprint
        self._visited: Counter[str] = Counter()
        self._visits: dict[str, _Visit] = {}
        self._open: dict[str, None] = {}
        self._strands: dict[str, _Strand] = {}
        self._fan_outs: dict[str, _FanOut] = {}
        self._outcome = "success"
        self._outcome_before = "success"
        self._failures = False
        self._ended: str | None = None
        self._made: list[Record] = []

    def feed(self, event: Event) -> list[Record]:
        """The records that one event makes.

        Args:
            event: the next of the journal.
        """
        handler = _HANDLERS.get(event.kind)
        if handler is None or event.data is None:
            return []
        self._made = []
        handler(self, event)
        return self._made

    def _add(self, event: Event, kind: str, fields: Mapping[str, Any]) -> None:
        self.count += 1
        self._made.append(
            {
                "sequence": self.count,
                "pipeline_id": self.pipeline_id,
                "type": kind,
                "timestamp": iso(event.time_ms),
                **fields,
            }
        )

    # --- the run ------------------------------------------------------------------------------------------------------

    def _run_started(self, event: Event) -> None:
        self._add(event, "PipelineStarted", {"name": graph_name(event.data["workflow"]), "id": self.pipeline_id})

    def _run_continued(self, event: Event) -> None:
        """A loop that restarts: the stage that it leaves has no event of its own that says that it ended."""
        for node in list(self._open):
            self._end_of_node(event, node, self._outcome, "")
        self._visits.clear()
        self._strands.clear()
        self._fan_outs.clear()

    def _run_reopened(self, event: Event) -> None:
        if (event.data.get("forgets") or {}).get("nodes"):  # with the visit goes what it wrote
            self._outcome = self._outcome_before
        by_contract = event.data.get("reason") == CHECKPOINT_RESUME
        fields = {
            "status": "running",
            "recovery_action": CHECKPOINT_RESUME if by_contract else RETRY,
            "resumed_from_status": self._ended,
        }
        self._add(event, "PipelineResumeStarted", fields)

    def _run_ended(self, event: Event) -> None:
        self._ended = status = _STATUS[event.kind]
        if status != "cancelled" and self.questions:
            self.questions.clear()
            self._questions_updated(event)
        if status == "success":
            output = event.data.get("output")
            told = output if isinstance(output, dict) else {}
            # That of a run with a large context is an artifact; then what the stages handed on tells.
            passed_over = bool(told.get("completed_with_failures", self._failures))
            self._add(event, "PipelineCompleted", {"status": status, "completed_with_failures": passed_over})
            return
        error = "cancelled" if status == "cancelled" else (event.data.get("error") or {}).get("message", "")
        self._add(event, "PipelineFailed", {"status": status, "error": error})

    # --- stages at the top level --------------------------------------------------------------------------------------

    def _node_entered(self, event: Event) -> None:
        node = event.node or ""
        self._open[node] = None
        if node not in self._visits:
            self._outcome_before = self._outcome
            self._visits[node] = visit = self._next_visit(node.rpartition("#")[0])
            self._add(event, "StageStarted", _told(visit))

    def _node_completed(self, event: Event) -> None:
        output, end = event.data.get("output"), event.data.get("end")
        error = end.get("error") if isinstance(end, dict) else None
        if isinstance(error, dict) and error.get("code") == "stage_failed":
            self._end_of_node(event, event.node or "", "fail", _reason(error))
            return
        told = output if isinstance(output, dict) else {}
        self._failures = self._failures or told.get("failures") is True
        status, reason = told.get("status") or self._outcome, told.get("failure_reason") or ""
        self._end_of_node(event, event.node or "", status, reason)

    def _node_failed(self, event: Event) -> None:
        """A stage that ended the run, or broke."""
        error, node = event.data["error"], event.node or ""
        code = error.get("code")
        if code in _OF_THE_PIPELINE:
            self._end_of_node(event, node, self._outcome, "")
            return
        self._open.pop(node, None)
        will_retry = event.data.get("due_ms") is not None
        self._failed(event, self._visit_of(node), _reason(error), will_retry=will_retry)
        if code == "stage_failed":
            self._add(event, "CheckpointSaved", {"node_id": node.rpartition("#")[0]})

    def _end_of_node(self, event: Event, node: str, status: str, reason: str) -> None:
        self._open.pop(node, None)
        visit = self._visit_of(node)
        if status == "fail" or (reason and status == "partial_success"):
            self._failed(event, visit, reason, will_retry=False)
        self._add(event, "CheckpointSaved", {"node_id": visit.name})
        if status != "fail":
            self._add(event, "StageCompleted", {**_told(visit), "status": status})

    def _stage_failed(self, event: Event) -> None:
        visit = self._visit_in(event)
        self._failed(event, visit, event.data.get("error") or "", will_retry=True)
        fields = {**_told(visit), "attempt": event.data["attempt"] + 1, "delay_ms": event.data["delay_ms"]}
        self._add(event, "StageRetrying", fields)

    def _failed(self, event: Event, visit: _Visit, reason: str, *, will_retry: bool) -> None:
        fields = {
            **_told(visit),
            "error": reason or "the stage failed",
            "error_category": "retryable" if will_retry else "terminal",
            "will_retry": will_retry,
        }
        self._add(event, "StageFailed", fields)

    def _state_written(self, event: Event) -> None:
        """What the last stage at the top level came to, for those that end without saying so themselves."""
        if (event.scope or "").count("/") != 1:
            return
        values = event.data.get("values") or {event.data.get("name"): event.data.get("value")}
        if isinstance(values.get("outcome"), str):
            self._outcome = values["outcome"]

    def _next_visit(self, name: str, branch: str | None = None) -> _Visit:
        index = self._visited[name]
        self._visited[name] += 1
        return _Visit(name, index, branch)

    def _visit_of(self, node: str) -> _Visit:
        return self._visits.get(node) or _Visit(node.rpartition("#")[0], 0)

    def _visit_in(self, event: Event) -> _Visit:
        """The stage that an event belongs to: that of a branch, or the node's."""
        strand = self._strands.get(event.scope or "")
        if strand is not None and strand.visit is not None:
            return strand.visit
        return self._visit_of(event.node or _node_of(event.scope or ""))

    # --- branches -----------------------------------------------------------------------------------------------------

    def _stage_entered(self, event: Event) -> None:
        scope, name = event.scope or "", event.data["node"]
        strand = self._strands.get(scope)
        if strand is None:
            strand = self._begin_strand(event, scope, name)
        strand.visit = self._next_visit(name, strand.first)
        strand.status = ""
        self._add(event, "StageStarted", _told(strand.visit))

    def _begin_strand(self, event: Event, scope: str, first: str) -> _Strand:
        group, place = _split(scope)
        fan_out = self._fan_outs.get(group)
        if fan_out is None:
            fan_out = self._begin_fan_out(event, group)
        strand = self._strands[scope] = fan_out.strands[scope] = _Strand(first, place)
        fields = {"name": fan_out.name, "branch": first, "index": place}
        self._add(event, "ParallelBranchStarted", fields)
        return strand

    def _begin_fan_out(self, event: Event, group: str) -> _FanOut:
        above = self._strands.get(group.rpartition("/")[0])
        outer = above.visit.name if above is not None and above.visit is not None else None
        fan_out = self._fan_outs[group] = _FanOut(outer or (event.node or "").rpartition("#")[0])
        self._add(event, "ParallelStarted", {"name": fan_out.name})
        return fan_out

    def _stage_ended(self, event: Event) -> None:
        strand = self._strands.get(event.scope or "")
        if strand is None or strand.visit is None:
            return
        strand.status = status = event.data["status"]
        reason = event.data.get("failure_reason") or ""
        if status == "fail" or (reason and status == "partial_success"):
            self._failed(event, strand.visit, reason, will_retry=False)
        if status != "fail":
            self._add(event, "StageCompleted", {**_told(strand.visit), "status": status})

    def _branches_joined(self, event: Event) -> None:
        """All branches met. A handler of a user's own may have branches too: those have no stages, and tell nothing."""
        group = f"{event.scope}/{event.key}"
        fan_out = self._fan_outs.pop(group, None)
        if fan_out is None:
            return
        succeeded = failed = 0
        for scope, strand in sorted(fan_out.strands.items(), key=lambda item: item[1].place):
            status = strand.status or "skipped"
            succeeded += status in SATISFIED
            failed += status == "fail"
            fields = {"name": fan_out.name, "branch": strand.first, "index": strand.place, "status": status}
            self._add(event, "ParallelBranchCompleted", fields)
            self._strands.pop(scope, None)
        told = {"name": fan_out.name, "success_count": succeeded, "failure_count": failed}
        self._add(event, "ParallelCompleted", told)

    # --- questions ----------------------------------------------------------------------------------------------------

    def _wait_opened(self, event: Event) -> None:
        if not is_gate(event.data):
            return
        question = question_of(event, self._visit_in(event).name, self._blueprint)
        self.questions[question.id] = question
        self._add(event, "InterviewStarted", {"stage": question.stage, "question": question.data})
        self._questions_updated(event)

    def _wait_answered(self, event: Event) -> None:
        question = self.questions.pop(event.data["wait_id"], None)
        if question is None:
            return
        answer = recorded_answer(question, event.data["answer"])
        fields = {"stage": question.stage, "answer": answer, "question": question.data}
        self._add(event, "InterviewCompleted", fields)
        self._questions_updated(event)

    def _wait_resolved(self, event: Event) -> None:
        question = self.questions.pop(event.data["wait_id"], None)
        if question is None:
            return
        duration_ms = max(0, (question.deadline_ms or event.time_ms) - question.opened_ms)
        fields = {"stage": question.stage, "duration_ms": duration_ms, "question": question.data}
        self._add(event, "InterviewTimeout", fields)
        self._questions_updated(event)

    def _wait_cancelled(self, event: Event) -> None:
        if self.questions.pop(event.data["wait_id"], None) is not None:
            self._questions_updated(event)

    def _questions_updated(self, event: Event) -> None:
        self._add(
            event, "PipelineQuestionsUpdated", {"questions": [self.questions[id].data for id in sorted(self.questions)]}
        )


_OF_THE_PIPELINE: Final = frozenset(
    ("no_eligible_edge", "visit_limit", "step_limit", "goal_gate_unsatisfied", "goal_gate_limit")
)
"""Codes of errors that end a run after a stage that did not fail itself."""


def _told(visit: _Visit) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": visit.name, "index": visit.index}
    return fields if visit.branch is None else {**fields, "branch": visit.branch}


def _reason(error: Mapping[str, Any]) -> str:
    details = error.get("details")
    reason = details.get("failure_reason") if isinstance(details, dict) else None
    return str(reason or error.get("message") or "")


def _node_of(scope: str) -> str:
    """The node of a scope: `gate#1` of `0/gate#1/…`."""
    parts = scope.split("/")
    return parts[1] if len(parts) > 1 else ""


def _split(scope: str) -> tuple[str, int]:
    """The fan-out of a branch's scope, and the branch's place in it: `0/fan#1/branches` and 2 of
    `0/fan#1/branches[2]`."""
    group, _, place = scope.rpartition("[")
    number = place.removesuffix("]")
    return (group, int(number)) if number.isdigit() else (scope, 0)


_HANDLERS: Final[Mapping[str, Callable[[PipelineRecords, Event], None]]] = {
    kinds.RUN_STARTED: PipelineRecords._run_started,
    kinds.RUN_CONTINUED: PipelineRecords._run_continued,
    kinds.RUN_REOPENED: PipelineRecords._run_reopened,
    kinds.RUN_COMPLETED: PipelineRecords._run_ended,
    kinds.RUN_FAILED: PipelineRecords._run_ended,
    kinds.RUN_CANCELLED: PipelineRecords._run_ended,
    kinds.NODE_ENTERED: PipelineRecords._node_entered,
    kinds.NODE_COMPLETED: PipelineRecords._node_completed,
    kinds.NODE_FAILED: PipelineRecords._node_failed,
    kinds.STATE_WRITTEN: PipelineRecords._state_written,
    kinds.BRANCHES_JOINED: PipelineRecords._branches_joined,
    kinds.WAIT_OPENED: PipelineRecords._wait_opened,
    kinds.WAIT_ANSWERED: PipelineRecords._wait_answered,
    kinds.WAIT_RESOLVED: PipelineRecords._wait_resolved,
    kinds.WAIT_CANCELLED: PipelineRecords._wait_cancelled,
    STAGE_ENTERED: PipelineRecords._stage_entered,
    STAGE_ENDED: PipelineRecords._stage_ended,
    STAGE_FAILED: PipelineRecords._stage_failed,
}
