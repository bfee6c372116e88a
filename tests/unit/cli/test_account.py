"""The account of a run, and the explanation of why it stands where it stands, from journals made by hand."""

from __future__ import annotations

import json
from typing import Any

from perdure.cli.account import Account, StepAccount, preview
from perdure.cli.explanation import Circumstances, following, why
from perdure.cli.place import Place
from perdure.core.events import NEVER, Event
from perdure.journal.fold import fold_all
from perdure.store.port import RunRow, Status, WorkerRow

NODE = "main#1"
SCOPE = "0/main#1"


class Journal:
    """Events of one run, one millisecond apart."""

    def __init__(self, workflow: str = "job") -> None:
        self.events: list[Event] = []
        self.run("run.started", workflow=workflow, version="1", fingerprint="f", input={}, policy={}, profile="normal")

    def run(self, kind: str, *, actor: str = "worker:w1", **payload: Any) -> Journal:
        return self._add(kind, None, None, None, actor, payload)

    def node(self, kind: str, node: str = NODE, **payload: Any) -> Journal:
        return self._add(kind, node, None, None, "worker:w1", payload)

    def step(self, kind: str, key: str, branch: str = "", *, actor: str = "worker:w1", **payload: Any) -> Journal:
        scope = f"{SCOPE}/{branch}" if branch else SCOPE
        return self._add(kind, NODE, scope, key, actor, {"fingerprint": "f"} | payload)

    def _add(
        self, kind: str, node: str | None, scope: str | None, key: str | None, actor: str, payload: dict[str, Any]
    ) -> Journal:
        seq = len(self.events) + 1
        data = json.dumps(payload).encode()
        self.events.append(Event("r", seq, kind, 1000 + seq, node, scope, key, actor, 1, b"", b"", data))
        return self

    def account(self) -> Account:
        return Account(self.events)

    def steps(self) -> dict[str, StepAccount]:
        return {step.key: step for step in self.account().steps}


def started() -> Journal:
    return Journal().node("node.entered", attempt=1)


def fact(journal: Journal, key: str, kind: str = "read", **more: Any) -> Journal:
    return journal.step("step.completed", key, step_kind=kind, step=key, attempt=1, duration_ms=5, **more)


def intent(journal: Journal, key: str, kind: str = "idempotent", attempt: int = 1) -> Journal:
    return journal.step("step.intended", key, step_kind=kind, step=key, attempt=attempt, idempotency_key="k", input={})


# --- the account ------------------------------------------------------------------------------------------------------


def test_a_read_begins_its_duration_before_its_fact() -> None:
    step = fact(started(), "look", result={"a": 1}).steps()["look"]
    assert (step.kind, step.status, step.detail, step.duration_ms) == ("read", "done", '{"a":1}', 5)
    assert step.started_ms == (step.ended_ms or 0) - 5


def test_an_effect_runs_from_its_intent_to_its_fact() -> None:
    journal = intent(started(), "write")
    assert journal.steps()["write"].status == "running"
    assert fact(journal, "write", "idempotent", result=1).steps()["write"].status == "done"


def test_a_retry_keeps_its_causes() -> None:
    journal = started()
    for attempt in (1, 2):
        journal.step(
            "step.retried", "look", attempt=attempt, due_ms=5000, error={"type": "E", "message": f"no {attempt}"}
        )
    step = journal.steps()["look"]
    assert (step.status, step.attempts, step.due_ms) == ("retrying", 2, 5000)
    assert step.notes == ["attempt 1: E: no 1", "attempt 2: E: no 2"]
    step = fact(journal, "look", result=1).steps()["look"]
    assert (step.kind, step.status, step.due_ms) == ("read", "done", None)


def test_a_failure_and_a_lost_value_are_facts() -> None:
    journal = started().step("step.failed", "a", error={"type": "E", "message": "no"}, step_kind="read")
    journal.step("step.completed", "b", result_refused=True, error={"type": "V", "message": "big"}, step_kind="once")
    assert [(step.status, step.detail) for step in journal.steps().values()] == [
        ("failed", "E: no"),
        ("done, value lost", "V: big"),
    ]


def test_what_a_crash_came_after_is_kept_and_what_it_cut_off_is_not() -> None:
    journal = intent(fact(started(), "look", result=1), "write")
    journal.node("node.interrupted", attempt=1, counted=True, cause="worker lost").node("node.entered", attempt=2)
    account = journal.account()
    assert [(step.key, step.status, step.kept) for step in account.steps] == [
        ("look", "done", 1),
        ("write", "interrupted", 0),
    ]
    assert (account.crashes, [step.key for step in account.kept()]) == (1, ["look"])
    again = intent(journal, "write", attempt=2)
    fact(again, "write", "idempotent", result=1)
    assert (again.steps()["write"].status, again.steps()["write"].kept) == ("done", 0)


def test_a_drain_keeps_but_is_no_crash() -> None:
    account = (
        fact(started(), "look", result=1).node("node.interrupted", attempt=1, counted=False, cause="drain").account()
    )
    assert (account.crashes, len(account.kept())) == (0, 1)


def test_waits_end_in_their_own_ways() -> None:
    journal = started()
    for wait_id, kind, more in (
        ("q1", "question", {"question": {"kind": "text", "text": "Who?"}}),
        ("q2", "question", {"question": {"kind": "text", "text": "When?"}, "has_default": True, "default": "now"}),
        ("s1", "signal", {"name": "paid", "match": "o1"}),
        ("t1", "timer", {"deadline_ms": 5000}),
        ("s2", "signal", {"name": "late"}),
    ):
        journal.step("wait.opened", wait_id, wait_id=wait_id, wait=kind, **more)
    assert [step.status for step in journal.account().steps] == ["waiting"] * 5
    journal.step("wait.answered", "q1", actor="person:ada", wait_id="q1", answer="Bob")
    journal.step("wait.resolved", "q2", wait_id="q2", outcome="timed_out", value="now")
    journal.step("wait.resolved", "s1", wait_id="s1", outcome="signal", value={"by": "card"}, signal_seq=1)
    journal.step("wait.resolved", "t1", wait_id="t1", outcome="fired")
    journal.step("wait.resolved", "s2", wait_id="s2", outcome="timed_out")
    assert [(step.name, step.status, step.detail) for step in journal.account().steps] == [
        ("Who?", "done", "Bob (by person:ada)"),
        ("When?", "timed out", "took its default: now"),
        ("paid [o1]", "done", '{"by":"card"}'),
        ("timer", "done", ""),
        ("late", "timed out", "timed out"),
    ]


def test_a_doubt_is_the_step_itself_not_another_line() -> None:
    journal = intent(started(), "pay", "once").step("step.doubted", "pay", attempt=1, cause="lost")
    journal.step(
        "wait.opened", "pay", wait_id="d1", wait="question", subject="pay", question={"kind": "doubt", "text": "?"}
    )
    [step] = journal.account().steps
    assert (step.status, step.detail, step.wait_id) == ("in doubt", "lost", "d1")
    journal.step("step.resolved", "pay", resolution="not_done", by="person")
    [step] = journal.account().steps
    assert (step.status, step.detail) == ("running", "resolved: not done")


def test_a_child_is_one_line() -> None:
    journal = started().step("child.spawned", "spawn.who", child="c1", workflow="who")
    journal.step("wait.opened", "child.c1", wait_id="c1", wait="child", child="c1")
    [step] = journal.account().steps
    assert (step.what, step.status, step.child) == ("child", "waiting", "c1")
    journal.step("child.settled", "child.c1", child="c1", status="failed", error={"type": "E", "message": "no"})
    [step] = journal.account().steps
    assert (step.status, step.detail) == ("failed", "E: no")


def test_the_generations_of_a_run_do_not_mix() -> None:
    journal = fact(started(), "look", result=1)
    journal.run("run.continued", generation=1, input={}, state={}, signals=[], children=[], waits=[])
    fact(journal.node("node.entered", attempt=1), "look", result=2)
    assert [(step.generation, step.detail) for step in journal.account().steps] == [(0, "1"), (1, "2")]


def test_an_erased_record_is_passed_over() -> None:
    journal = fact(started(), "look", result=1)
    journal.events[-1].payload = None
    assert Account(journal.events).steps == []


def test_a_preview_is_one_short_line() -> None:
    assert preview("a\n b") == "a b"
    assert preview({"$artifact": "0123456789abcdef"}) == "artifact 0123456789ab"
    assert len(preview("x" * 1000)) == 200


# --- the explanation --------------------------------------------------------------------------------------------------


def worker(worker_id: str = "w1", *, alive: bool = True, workflows: tuple[str, ...] = ()) -> WorkerRow:
    return WorkerRow(worker_id, "host", 42, "boot", 0, 0, workflows=workflows, alive=alive)


def seen(
    journal: Journal,
    *workers: WorkerRow,
    status: Status = "running",
    reason: str = "",
    owner: str | None = None,
    **more: Any,
) -> Circumstances:
    row = RunRow("r", "job", "1", status, reason, 1000, 1000, NEVER, 1, 1, owner, None, more.get("caller_owned", False))
    state = fold_all("r", journal.events)
    return Circumstances(row, state, Account(journal.events), workers, {}, 2000, Place("sqlite:///x.db"))


def words(circumstances: Circumstances) -> str:
    points = [*why(circumstances), *following(circumstances)]
    return "\n".join("\n".join([point.text, *point.details, *point.commands]) for point in points)


def test_a_pending_run_waits_for_a_worker_that_has_its_workflow() -> None:
    nobody = words(seen(Journal(), worker(workflows=("other",)), status="pending"))
    assert "no live worker has loaded workflow 'job'" in nobody
    assert "perdure worker FILE" in nobody
    somebody = words(seen(Journal(), worker("w7", workflows=("job",)), status="pending"))
    assert "worker w7 takes it" in somebody
    assert "no live worker" in words(seen(Journal(), worker("w7", alive=False, workflows=("job",)), status="pending"))


def test_a_running_run_names_its_worker() -> None:
    text = words(seen(intent(started(), "write"), worker(), owner="w1"))
    assert "worker w1 (process 42 on host) executes it" in text
    assert "write (idempotent) is in attempt 1" in text
    assert "main#1 (attempt 1) goes on" in text
    assert "no live worker" not in text


def test_a_run_whose_worker_is_gone_says_what_becomes_of_what_was_in_flight() -> None:
    journal = intent(intent(started(), "write"), "pay", "once")
    for workers in ((), (worker(alive=False),)):
        text = words(seen(journal, *workers, owner="w1"))
        assert "its worker w1 is gone" in text
        assert "write (idempotent) was cut off in attempt 1; it is repeated under the same idempotency key" in text
        assert "pay (once) was cut off in attempt 1; it is in doubt then" in text
        assert "main#1 (attempt 2) goes on" in text


def test_a_retry_says_when() -> None:
    journal = started().step("step.retried", "look", attempt=1, due_ms=7000, error={"type": "E", "message": "no"})
    assert "look is tried again in 5.0s\nE: no" in words(seen(journal, worker(), owner="w1"))


def test_a_run_of_its_callers_loop_is_nobodys_to_execute() -> None:
    text = words(seen(started(), caller_owned=True))
    assert "tick()" in text
    assert "no live worker" not in text


def test_a_cancel_that_was_asked_for_is_told() -> None:
    journal = started().run("run.cancel_requested", reason="")
    assert "a cancel was asked for" in words(seen(journal, worker(), owner="w1"))


def test_a_parked_run_says_both_inputs_the_path_and_what_to_do() -> None:
    detail = {
        "step": "look",
        "scope": SCOPE,
        "recorded": {"n": 1},
        "asked": {"n": 2},
        "path": "$.n",
        "what_to_do": "fix it",
    }
    journal = started().run("run.paused", reason="drift", message="it differs", detail=detail)
    text = words(seen(journal, status="paused", reason="drift"))
    for part in (
        "parked: drift (it differs)",
        "step: look",
        'recorded: {"n":1}',
        'asked now: {"n":2}',
        "differ at: $.n",
        "fix it",
        "perdure resume r",
    ):
        assert part in text, part


def test_a_spent_crash_budget_can_be_resumed() -> None:
    journal = started().run(
        "run.paused", reason="crash_budget_spent", message="lost 6 times", detail={"interruptions": 6}
    )
    text = words(seen(journal, status="paused", reason="crash_budget_spent"))
    assert "crash budget spent (lost 6 times)" in text
    assert "perdure resume r" in text
