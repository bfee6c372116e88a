"""Why a run stands where it stands, and what comes next: in words, with the commands that help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from perdure.cli import given
from perdure.cli.account import INTERRUPTED, RETRYING, RUNNING, Account, preview
from perdure.cli.output import count
from perdure.cli.place import Place
from perdure.cli.times import instant, until
from perdure.core.errors import CorruptRecordError
from perdure.core.events import NEVER
from perdure.engine.reasons import able_workers, doubt_name, is_orphaned, owner_of
from perdure.journal.state import RunState, Wait
from perdure.store.port import RunRow, WorkerRow

FILE: Final = "FILE"
"""Stands for the file with the workflow: a journal does not say where it lies."""
MOST_CHOICES: Final = 8


@dataclass(slots=True)
class Point:
    """One reason, or one thing to do.

    Args:
        text: in words.
        details: more lines about it.
        commands: what can be typed, as it is.
    """

    text: str
    details: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self)


@dataclass(slots=True)
class Circumstances:
    """What an explanation is made of.

    Args:
        row, state, account: the run's index row, its folded state, and the account of its steps.
        workers: all that are registered.
        children: index rows of its children, by id.
        now_ms: the wall clock.
        place: the store, for the commands.
        file: of the workflow, where it is known.
        damage: the first record that is not what was written; state and account end before it.
    """

    row: RunRow
    state: RunState
    account: Account
    workers: Sequence[WorkerRow]
    children: Mapping[str, RunRow]
    now_ms: int
    place: Place
    file: str = FILE
    damage: CorruptRecordError | None = None

    @property
    def owner(self) -> WorkerRow | None:
        """The worker that owns the run."""
        return owner_of(self.row, self.workers)

    @property
    def orphaned(self) -> bool:
        """Whether its worker is gone."""
        return is_orphaned(self.row, self.workers)

    def able(self) -> list[WorkerRow]:
        """Live workers that have loaded the run's workflow."""
        return able_workers(self.row, self.workers)

    def go_on(self) -> list[str]:
        """Commands that go on with the run."""
        return self.place.executing(self.file, self.row.run_id)


def why(seen: Circumstances) -> list[Point]:
    """Why the run stands where it stands."""
    if seen.damage is not None:
        details = ["what stands behind it is not shown; nobody acts on it"]
        return [Point(f"its journal is damaged: {seen.damage.message}", details)]
    status = seen.row.status
    if status == "paused":
        return [_paused(seen)]
    if status == "waiting":
        return [*waits(seen), *_cancelling(seen)]
    if status in ("pending", "running"):
        return [*_executing(seen), *_cancelling(seen)]
    return _ended(seen)


# --- pending and running ----------------------------------------------------------------------------------------------


def _executing(seen: Circumstances) -> list[Point]:
    row, owner = seen.row, seen.owner
    points = _in_progress(seen)
    if row.caller_owned:
        text = "its loop belongs to the program that started it: it goes on when that program calls tick()"
        return [*points, Point(text)]
    if row.owner is not None and owner is not None and owner.alive:
        ending = ", which is about to end" if owner.draining else ""
        return [Point(f"worker {owner.worker_id} (process {owner.pid} on {owner.host}) executes it{ending}"), *points]
    if row.owner is not None:
        return [Point(f"its worker {row.owner} is gone: whoever goes on with it keeps what is recorded"), *points]
    if row.status == "pending":
        return [Point("it has not begun")]
    return [Point("it is ready to go on, and nobody executes it now"), *points, *waits(seen)]


def _in_progress(seen: Circumstances) -> list[Point]:
    points = []
    for step in seen.account.steps:
        if step.what != "step":
            continue
        if step.status == RUNNING and not seen.orphaned:
            points.append(Point(f"{step.name} ({step.kind}) is in attempt {step.attempts}"))
        elif step.status in (RUNNING, INTERRUPTED):
            fate = "is in doubt then" if step.kind == "once" else "is repeated under the same idempotency key"
            points.append(Point(f"{step.name} ({step.kind}) was cut off in attempt {step.attempts}; it {fate}"))
        elif step.status == RETRYING and step.due_ms is not None:
            points.append(Point(f"{step.name} is tried again {until(step.due_ms, seen.now_ms)}", [step.detail]))
    return points


def _cancelling(seen: Circumstances) -> list[Point]:
    if seen.state.cancel_requested is None:
        return []
    return [Point("a cancel was asked for: it ends as soon as what is in flight has ended")]


# --- waiting ----------------------------------------------------------------------------------------------------------


def waits(seen: Circumstances) -> list[Point]:
    """The run's open waits, and how each can be settled."""
    return [_wait(seen, wait) for wait in seen.state.open_waits()]


def _wait(seen: Circumstances, wait: Wait) -> Point:
    if wait.kind == "question":
        return _doubt(seen, wait) if wait.data.get("subject") is not None else _question(seen, wait)
    if wait.kind == "signal":
        return _signal(seen, wait)
    if wait.kind == "child":
        return _child(seen, wait)
    deadline_ms = wait.deadline_ms or 0
    return Point(f"a timer: due {until(deadline_ms, seen.now_ms)} ({instant(deadline_ms)})")


def _question(seen: Circumstances, wait: Wait) -> Point:
    question = wait.data["question"]
    others = sum(1 for other in seen.state.open_waits() if other.kind == "question")
    commands = answer_commands(seen.place, seen.row.run_id, question, wait.wait_id if others > 1 else None)
    return Point(f"a person's answer: {question['text']}", _terms(seen, wait), commands)


def answer_commands(place: Place, run_id: str, question: Mapping[str, Any], wait_id: str | None) -> list[str]:
    """The commands that answer a question.

    Args:
        question: its `kind` and `choices`, the `hash` of what it asks to approve, and whether it is `declinable`.
        wait_id: named where the run asks more than one.
    """
    named = ["--question", wait_id] if wait_id is not None else []
    named += ["--saw", question["hash"]] if question.get("hash") is not None else []
    choices = list(question.get("choices") or ())
    if question["kind"] == "confirm":
        values = ["yes", "no"]
    elif question["kind"] == "multiple":
        values = [",".join(choices[:2])]
    else:
        values = choices[:MOST_CHOICES] or ["TEXT"]
    values += [given.DECLINE] if question.get("declinable") and given.DECLINE not in values else []
    return [
        # What begins with a dash would be read as an option.
        place.command("answer", *named, run_id, *(("--", value) if value.startswith("-") else (value,)))
        for value in values
    ]


def _doubt(seen: Circumstances, wait: Wait) -> Point:
    key: str = wait.data["subject"]
    doubts = seen.state.in_doubt()
    step = doubt_name(seen.state, wait.scope, key)
    cause = next(
        (
            record.doubt.data["cause"]
            for scope, other, record in doubts
            if record.doubt is not None and (scope, other) == (wait.scope, key)
        ),
        "its answer was lost",
    )
    place, run_id = seen.place, seen.row.run_id
    return Point(
        f"somebody to say whether step {key} happened",
        [f"it is in doubt: {cause}"],
        [
            place.command("resolve", run_id, step, "--done", "VALUE"),
            place.command("resolve", run_id, step, "--not-done"),
            place.command("resolve", run_id, step, "--fail"),
        ],
    )


def _signal(seen: Circumstances, wait: Wait) -> Point:
    name, match = wait.data["name"], wait.data.get("match")
    keyed = f" with key {match!r}" if match is not None else ""
    words = ["signal", seen.row.run_id, name, "--payload", "JSON", *(["--match", match] if match is not None else [])]
    return Point(f"the signal {name!r}{keyed}", _terms(seen, wait), [seen.place.command(*words)])


def _child(seen: Circumstances, wait: Wait) -> Point:
    child_id: str = wait.data["child"]
    row = seen.children.get(child_id)
    how = f"{row.workflow}, {row.status}" if row is not None else "not started yet"
    if row is not None and row.reason:
        how += f": {row.reason}"
    return Point(f"its child {child_id} ({how})", [], [seen.place.command("show", child_id)])


def _terms(seen: Circumstances, wait: Wait) -> list[str]:
    """The choices, and what happens when nobody answers."""
    terms = []
    choices = (wait.data.get("question") or {}).get("choices")
    if choices:
        terms.append(f"choices: {', '.join(choices)}")
    if (wait.data.get("question") or {}).get("hash") is not None:
        terms.append(f"what is to be approved: {seen.place.command('questions', seen.row.run_id)}")
    default = f"takes its default {preview(wait.data.get('default'))}" if wait.data.get("has_default") else "fails"
    if wait.deadline_ms is not None:
        terms.append(f"otherwise it {default} {until(wait.deadline_ms, seen.now_ms)} ({instant(wait.deadline_ms)})")
    elif wait.data.get("has_default"):
        terms.append(f"default: {preview(wait.data.get('default'))}")
    return terms


# --- paused -----------------------------------------------------------------------------------------------------------


def _paused(seen: Circumstances) -> Point:
    state, event = seen.state, seen.state.paused
    if event is None:
        return Point(f"it is paused: {seen.row.reason}")
    message = event.data.get("message")
    if state.reason == "paused":
        return Point(f"it was paused by {event.actor or 'somebody'} {until(event.time_ms, seen.now_ms)}")
    text = f"it is parked: {state.reason.replace('_', ' ')}" + (f" ({message})" if message else "")
    return Point(text, _parked_details(state.detail))


def _parked_details(detail: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, label in (("step", "step"), ("scope", "scope"), ("missing", "not asked for"), ("path", "they differ at")):
        if detail.get(name) not in (None, "$", []):
            lines.append(f"{label}: {preview(detail[name])}")
    if "recorded" in detail and "asked" in detail:
        lines.append(f"recorded: {preview(detail['recorded'])}")
        lines.append(f"asked now: {preview(detail['asked'])}")
    if "loaded_version" in detail:
        lines += _changed_definition(detail)
    if detail.get("seq") is not None:
        lines.append(f"first bad record: {detail['seq']}")
    return lines


def _changed_definition(detail: Mapping[str, Any]) -> list[str]:
    """What is known of how the loaded definition differs from the one that the run began with."""
    if detail.get("version") != detail["loaded_version"]:
        return [f"version when it began: {detail.get('version')}; loaded: {detail['loaded_version']}"]
    return [
        f"both say version {detail['loaded_version']}; their structure differs: the form, the names of parameters, "
        "the nodes, or the ways between them (the code of functions does not count)",
        f"fingerprint when it began: {str(detail.get('recorded'))[:12]}; loaded: {str(detail.get('loaded'))[:12]}",
    ]


# --- ended ------------------------------------------------------------------------------------------------------------


def _ended(seen: Circumstances) -> list[Point]:
    state, place, run_id = seen.state, seen.place, seen.row.run_id
    data = (state.ended.data if state.ended is not None else None) or {}
    points = []
    error = data.get("error")
    if error:
        text = f"it failed: {error.get('message', '')}"
        origin = error.get("origin")
        details = [f"error: {error.get('type')} ({error.get('code')})"]
        details += [f"from: {'/'.join(origin)}"] if origin else []
        details += [f"hint: {error['hint']}"] if error.get("hint") else []
        points.append(Point(text, details))
    if seen.row.status == "cancelled":
        reason = data.get("reason")
        points.append(Point("it was cancelled" + (f": {reason}" if reason else "")))
    doubts = state.in_doubt()
    for scope, key, _ in doubts:
        step = doubt_name(state, scope, key)
        points.append(
            Point(
                f"step {step} is in doubt",
                [],
                [
                    place.command("resolve", run_id, step, "--done", "VALUE"),
                    place.command("resolve", run_id, step, "--not-done"),
                    place.command("resolve", run_id, step, "--fail"),
                ],
            )
        )
    if data.get("unread_signals"):
        names = ", ".join(dict.fromkeys(signal["name"] for signal in data["unread_signals"]))
        points.append(Point(f"{count(len(data['unread_signals']), 'signal')} nobody read: {names}"))
    for child in data.get("live_children") or ():
        points.append(Point(f"its child {child} went on without it", [], [place.command("show", child)]))
    return points


# --- next -------------------------------------------------------------------------------------------------------------


def following(seen: Circumstances) -> list[Point]:
    """What comes next, and what has to be done for it."""
    row, state = seen.row, seen.state
    if seen.damage is not None:
        return [Point("restore the store from a backup", [], [seen.place.command("verify", row.run_id)])]
    if row.status == "completed":
        return []
    if row.status in ("failed", "cancelled"):
        if row.parent_id is not None and row.parent_id:
            return [
                Point(f"its parent {row.parent_id} takes this outcome", [], [seen.place.command("show", row.parent_id)])
            ]
        return [
            Point(
                "it can be opened again; what is recorded is kept",
                [],
                [seen.place.command("retry", row.run_id), *seen.go_on()[:1]],
            )
        ]
    if row.status == "paused":
        return _after_pause(seen)
    again = {node: attempt + 1 for node, attempt in state.reenter.items()}
    lost = 1 if seen.orphaned and row.status == "running" else 0
    active = again | {node: attempt + lost for node, attempt in state.active.items()}
    if active:
        text = ", ".join(f"{node} (attempt {attempt})" for node, attempt in active.items()) + " goes on"
    else:
        text = f"{_routed(state)} begins"
    return [Point(f"then {text}" if row.status == "waiting" else text), *_executor(seen)]


def _routed(state: RunState) -> str:
    if state.last is not None and state.last.next:
        return ", ".join(state.last.next)
    return "its first node" if not state.visits else "the next node"


def _executor(seen: Circumstances) -> list[Point]:
    """Who executes it when it can go on."""
    row, owner = seen.row, seen.owner
    if row.caller_owned:
        return []
    if owner is not None and owner.alive and not owner.draining:
        return [Point(f"worker {owner.worker_id} holds it ready")] if row.status == "waiting" else []
    able = seen.able()
    if able:
        return [Point(f"worker {able[0].worker_id} takes it when it can go on")]
    return [Point(f"no live worker has loaded workflow {row.workflow!r}", [], seen.go_on())]


def _after_pause(seen: Circumstances) -> list[Point]:
    row, state, place = seen.row, seen.state, seen.place
    resume = place.command("resume", row.run_id)
    if state.reason == "definition_changed":
        points = [Point("put the old definition back", [], [resume])]
        if "loaded" in state.detail:  # otherwise the recorded input does not fit it
            accept = place.command("resume", row.run_id, "--accept-definition")
            points.append(
                Point("or accept the new one", ["steps that it no longer asks for will park the run again"], [accept])
            )
    elif state.reason == "paused":
        points = [Point("it goes on when it is resumed", [], [resume])]
    else:
        advice = state.detail.get("what_to_do")
        points = [Point(str(advice) if advice else "find out why, then let it go on", [], [resume])]
    return [*points, *_executor(seen)]


def deadline(row: RunRow) -> int | None:
    """When a run is due, in milliseconds since 1970; `None` when nothing but an event from outside wakes it."""
    return row.due_ms if 0 < row.due_ms < NEVER else None
