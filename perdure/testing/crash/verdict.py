"""What must hold after a crash, judged from what was witnessed and from the journals that are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from perdure.core import kinds
from perdure.testing.crash.witness import Line

Place = tuple[str, str, str]
"""Run, scope and key of a step."""

_SINGLE: Final = frozenset(
    (
        kinds.STEP_COMPLETED,
        kinds.STEP_FAILED,
        kinds.STATE_WRITTEN,
        kinds.ARTIFACT_PUT,
        kinds.PATCH_DECIDED,
        kinds.BRANCHES_JOINED,
        kinds.CHILD_SPAWNED,
        kinds.CHILD_SETTLED,
        kinds.WAIT_ANSWERED,
        kinds.WAIT_RESOLVED,
    )
)


class Outcome(NamedTuple):
    """How a run ended.

    Args:
        status: `completed`, `failed`, `cancelled`, or `paused`.
        output: of a completed run, as JSON data.
        error: of a failed run: code, type, message, details.
        reason: of a parked run.
    """

    status: str
    output: Any = None
    error: Any = None
    reason: str | None = None

    @classmethod
    def of(cls, data: dict[str, Any]) -> Outcome:
        """An outcome from a process's report."""
        return cls(data["status"], data.get("output"), data.get("error"), data.get("reason"))

    def __str__(self) -> str:
        what = {"completed": self.output, "failed": self.error, "paused": self.reason}.get(self.status)
        return self.status if what is None else f"{self.status} {what!r}"


class StepCount(NamedTuple):
    """How often a step was called, by all processes of a point together.

    Args:
        run_id, scope, key: the step's place.
        step: its name.
        kind: its kind.
        calls: how often its function was called.
        effects: how often it recorded an effect.
    """

    run_id: str
    scope: str
    key: str
    step: str
    kind: str
    calls: int
    effects: int


@dataclass(slots=True)
class Evidence:
    """What is known of the processes of a point.

    Args:
        lines: what was witnessed.
        report: of the process that lived to the end.
    """

    lines: list[Line]
    report: dict[str, Any]
    _calls: dict[Place, list[Line]] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """How the run ended."""
        return Outcome.of(self.report["outcome"])

    @property
    def statuses(self) -> dict[str, str]:
        """How each run ended."""
        return {run["run_id"]: run["status"] for run in self.report["runs"]}

    @property
    def calls(self) -> dict[Place, list[Line]]:
        """The calls of each step."""
        if not self._calls:
            for line in self.told("called"):
                self._calls.setdefault(_place(line), []).append(line)
        return self._calls

    def told(self, what: str) -> list[Line]:
        """The lines of one sort."""
        return [line for line in self.lines if line["what"] == what]

    def events(self, *names: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Run id and event of all journals, of these kinds or of all."""
        for run in self.report["runs"]:
            for event in run["events"]:
                if not names or event["kind"] in names:
                    yield run["run_id"], event

    def counts(self) -> list[StepCount]:
        """How often each step was called and what it did."""
        effects = Counter(map(_place, self.told("effect")))
        return [
            StepCount(*place, calls[0]["step"], calls[0]["kind"], len(calls), effects[place])
            for place, calls in self.calls.items()
        ]


def _place(line: Line) -> Place:
    return (line["run"], line["scope"], line["key"])


# --- rules that hold for every run --------------------------------------------------------------------------------


def judge(evidence: Evidence) -> list[str]:
    """What is wrong, whatever the run was supposed to do; nothing, if all is well."""
    return [problem for rule in _RULES for problem in rule(evidence)]


def _journals_are_sound(evidence: Evidence) -> Iterator[str]:
    for run in evidence.report["runs"]:
        for problem in run["problems"]:
            yield f"run {run['run_id']}: {problem}"


def _facts_are_written_once(evidence: Evidence) -> Iterator[str]:
    seen: set[tuple[object, ...]] = set()
    for run_id, event in evidence.events():
        kind, payload = event["kind"], event["payload"] or {}
        if kind == kinds.RUN_REOPENED:
            seen = {place for place in seen if place[0] != run_id}
        single = kind in _SINGLE or (event["key"] is not None and kind not in kinds.KINDS)
        what = "fact" if kind in (kinds.STEP_COMPLETED, kinds.STEP_FAILED) else kind
        place = (run_id, what, payload.get("wait_id") or payload.get("child") or (event["scope"], event["key"]))
        if single and place in seen:
            yield f"{kind} of {event['key']} in {event['scope']} was written twice"
        if single:
            seen.add(place)


def _effects_begin_after_their_intent(evidence: Evidence) -> Iterator[str]:
    intents = {
        (run_id, event["scope"], event["key"], event["epoch"], payload["attempt"], payload["idempotency_key"])
        for run_id, event in evidence.events(kinds.STEP_INTENDED)
        for payload in (event["payload"],)
    }
    for call in evidence.told("called"):
        effect = call["kind"] in ("idempotent", "once")
        if effect and (*_place(call), call["epoch"], call["attempt"], call["idempotency_key"]) not in intents:
            yield f"{_named(call)} began without a durable intent"


def _facts_are_not_called_again(evidence: Evidence) -> Iterator[str]:
    facts = {
        (run_id, event["scope"], event["key"]): event["epoch"]
        for run_id, event in evidence.events(kinds.STEP_COMPLETED, kinds.STEP_FAILED)
    }
    for call in evidence.told("called"):
        epoch = facts.get(_place(call))
        if epoch is not None and call["epoch"] > epoch:
            yield f"{_named(call)} was called again although its fact was durable"


def _repeats_are_the_same(evidence: Evidence) -> Iterator[str]:
    for calls in evidence.calls.values():
        if calls[0]["kind"] != "idempotent":
            continue
        if len({call["idempotency_key"] for call in calls}) > 1:
            yield f"{_named(calls[0])} was repeated under another idempotency key"
        if len({call["input"] for call in calls}) > 1:
            yield f"{_named(calls[0])} was repeated with another input"


def _once_is_once(evidence: Evidence) -> Iterator[str]:
    excused = Counter(_place(line) for line in evidence.told("raised") if line["refused"])
    excused += Counter(
        (run_id, event["scope"], event["key"])
        for run_id, event in evidence.events(kinds.STEP_RESOLVED)
        if event["payload"]["resolution"] == "not_done"  # a person's word, or a probe's
    )
    for place, calls in evidence.calls.items():
        if calls[0]["kind"] != "once" or calls[0]["in_doubt"] == "retry":
            continue
        if len(calls) > 1 + excused[place]:
            yield f"{_named(calls[0])} is a once step and was called {len(calls)} times"
    counted = Counter((_place(line), line["effect"]) for line in evidence.told("effect") if line["kind"] == "once")
    for (place, effect), times in counted.items():
        if times > 1 and evidence.calls[place][0]["in_doubt"] != "retry":
            yield f"{'/'.join(place)} is a once step and its effect {effect!r} happened {times} times"


def _what_was_told_is_durable(evidence: Evidence) -> Iterator[str]:
    durable: set[tuple[object, ...]] = set()
    for run_id, event in evidence.events():
        kind, payload = event["kind"], event["payload"] or {}
        if kind == kinds.RUN_STARTED:
            durable.add(("started", run_id))
        elif kind == kinds.WAIT_ANSWERED:
            durable.add(("answered", run_id, payload["wait_id"]))
        elif kind == kinds.SIGNAL_RECEIVED:
            durable.add(("signalled", run_id, payload.get("sender_id")))
        elif kind == kinds.STEP_RESOLVED:
            durable.add(("resolved", run_id, event["scope"], event["key"]))
        elif kind in kinds.TERMINAL_KINDS:
            durable.add(("ended", run_id, kind.partition(".")[2]))
        elif kind == kinds.RUN_PAUSED:
            durable.add(("ended", run_id, "paused"))
    for line in evidence.told("told"):
        names = {"answered": ("wait",), "signalled": ("sender",), "resolved": ("scope", "key"), "ended": ("status",)}
        told = (line["told"], line["run"], *(line[name] for name in names.get(line["told"], ())))
        if told not in durable:
            yield f"process {line['process']} was told {told!r}, and it was lost"


def _named(call: Line) -> str:
    return f"{call['key']} in {call['scope']} of run {call['run']}"


Rule = Callable[[Evidence], Iterable[str]]

_RULES: Final[tuple[Rule, ...]] = (
    _journals_are_sound,
    _facts_are_written_once,
    _effects_begin_after_their_intent,
    _facts_are_not_called_again,
    _repeats_are_the_same,
    _once_is_once,
    _what_was_told_is_durable,
)


# --- rules that compare -------------------------------------------------------------------------------------------


def compare(evidence: Evidence, reference: Evidence) -> list[str]:
    """How a run that was killed differs from the one that nothing disturbed."""
    problems = []
    if evidence.outcome != reference.outcome:
        problems.append(f"the run ended {evidence.outcome} and not {reference.outcome}")
    if evidence.statuses != reference.statuses:
        problems.append(f"the runs ended {evidence.statuses} and not {reference.statuses}")
    for place in reference.calls.keys() - evidence.calls.keys():
        problems.append(f"{'/'.join(place)} was never called")
    for place in evidence.calls.keys() - reference.calls.keys():
        if evidence.calls[place][0]["kind"] in ("idempotent", "once"):
            problems.append(f"{'/'.join(place)} was called, and is not when nothing crashes")
    return problems
