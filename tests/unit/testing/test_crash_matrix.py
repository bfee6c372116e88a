"""The crash matrix itself: which points it finds, what it says of them, and what it refuses."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, Secret, step, workflow
from perdure.core.errors import CrashMatrixError, DefinitionLoadError, InputTypeError, ValueRefusedError
from perdure.testing import CrashPoint, Doubt, Outcome, crash_matrix, record_effect
from perdure.testing.crash.verdict import Evidence, compare, judge
from perdure.testing.crash.witness import Witness, read_lines


@step(kind="pure")
def trim(text: str) -> str:
    trimmed = text.strip()
    return trimmed


@step(kind="once")
async def post(text: str) -> str:
    length = len(text)
    record_effect("posted", length=length)
    await asyncio.sleep(0)
    return f"posted {length}"


@workflow
async def letter(run: Run, text: str) -> str:
    trimmed = await run.step(trim, text)
    return await run.step(post, trimmed)


@workflow
async def token(run: Run) -> str:
    await run.step(trim, "x")
    return str(run.uuid())


@workflow
async def waits_for_news(run: Run) -> Any:
    return await run.wait_for("news")


@workflow
async def asks_all(run: Run) -> list[Any]:
    return [
        await run.ask("Sure?", kind="confirm"),
        await run.ask("Which?", choices=["a", "b"]),
        await run.ask("Which ones?", choices=["a", "b"], kind="multiple"),
        await run.ask("What?"),
        await run.ask("When?", timeout="1d", default="never"),
        await run.ask("How?"),
    ]


@workflow
async def fails(run: Run) -> None:
    await run.step(trim, "x")
    raise ValueError("on purpose")


@workflow
async def drifts(run: Run, length: str = "5s") -> None:
    await run.step(trim, os.urandom(4).hex())
    await run.sleep(length)


def no_way(what: object) -> str | None:
    """A person who answers one question, and takes it that no step in doubt has happened."""
    if isinstance(what, Doubt):
        return "fail"
    return "by train" if getattr(what, "text", "") == "How?" else None


def set_up() -> None:
    Path("was-set-up").touch()


# --- points -----------------------------------------------------------------------------------------------------------


def test_a_crash_point_and_its_text() -> None:
    for text in ("commit:before:17", "claim:after:1", "step:middle:r1/0/main#1/post@1:3", "effect:after:a/b!c#1"):
        assert str(CrashPoint.parse(text)) == text
    for text in ("commit:before", "commit:17", "lunch:before:1", "commit:never:1", ""):
        with pytest.raises(CrashMatrixError):
            CrashPoint.parse(text)


def test_the_points_of_a_small_workflow(tmp_path: Path) -> None:
    matrix = crash_matrix(letter, "  dear reader ", directory=tmp_path / "remains")
    matrix.assert_ok()
    assert matrix.reference == Outcome("completed", "posted 11")
    assert [(step.step, step.kind, step.calls, step.effects) for step in matrix.steps] == [
        ("trim", "pure", 1, 0),
        ("post", "once", 1, 1),
    ]
    points = {str(result.point) for result in matrix.points}
    for call in ("crash-matrix/0/main#1/trim@1", "crash-matrix/0/main#1/post@1"):
        assert {f"step:before:{call}", f"step:after:{call}"} <= points
    assert {"step:middle:crash-matrix/0/main#1/trim@1:2", "step:middle:crash-matrix/0/main#1/post@1:3"} <= points
    assert {"effect:before:crash-matrix/0/main#1/post@1!posted#1", "commit:before:1", "lease:after:1"} <= points
    assert all(result.reached for result in matrix.points)
    labels = {str(result.point): result.point.label for result in matrix.points}
    assert labels["commit:before:1"] == "run.started"
    assert labels["step:before:crash-matrix/0/main#1/post@1"] == "once post"


def test_what_happened_at_each_point_is_counted(tmp_path: Path) -> None:
    points = ["step:after:crash-matrix/0/main#1/trim@1", "step:before:crash-matrix/0/main#1/post@1"]
    matrix = crash_matrix(letter, "dear", only=points, directory=tmp_path / "remains")
    matrix.assert_ok()
    after, before = ({step.step: step.calls for step in result.steps} for result in matrix.points)
    assert after == {"trim": 2, "post": 1}  # killed before its fact was there, so it is computed again
    assert before["post"] == 1
    assert [str(result.point) for result in matrix.points] == points


def test_a_sample_of_points(tmp_path: Path) -> None:
    chosen = [crash_matrix(letter, "dear", sample=4, seed=seed, directory=tmp_path / str(seed)) for seed in (1, 2)]
    again = crash_matrix(letter, "dear", sample=4, seed=1, directory=tmp_path / "again", jobs=1)
    names = [[str(result.point) for result in matrix.points] for matrix in (*chosen, again)]
    assert [len(one) for one in names] == [4, 4, 4]
    assert names[0] == names[2] != names[1]


def test_the_remains_are_removed_when_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    crash_matrix(letter, "dear", sample=2).assert_ok()
    assert list(tmp_path.iterdir()) == []


# --- what people do ---------------------------------------------------------------------------------------------------


def test_questions_get_the_answers_that_were_given_or_the_most_obvious_ones(tmp_path: Path) -> None:
    matrix = crash_matrix(asks_all, answers={"Which?": "b"}, respond=no_way, sample=3, directory=tmp_path / "remains")
    matrix.assert_ok()
    assert matrix.reference.output == [True, "b", ["a"], "text", "never", "by train"]


def test_a_signal_that_nobody_sends_is_told(tmp_path: Path) -> None:
    with pytest.raises(CrashMatrixError, match="waits for signal 'news'"):
        crash_matrix(waits_for_news, directory=tmp_path / "remains")


def test_a_doubt_can_be_resolved_by_a_function(tmp_path: Path) -> None:
    point = ["step:before:crash-matrix/0/main#1/post@1"]
    matrix = crash_matrix(letter, "dear", respond=no_way, only=point, directory=tmp_path / "remains")
    (result,) = matrix.points
    assert result.outcome is not None
    assert result.outcome.status == "failed"
    assert not matrix.ok
    same = crash_matrix(
        letter, "dear", respond=no_way, only=point, same=lambda outcome, reference: True, directory=tmp_path / "same"
    )
    same.assert_ok()


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_a_workflow_that_fails_must_always_fail_alike(tmp_path: Path) -> None:
    matrix = crash_matrix(fails, directory=tmp_path / "remains")
    matrix.assert_ok()
    assert matrix.reference.status == "failed"
    assert matrix.reference.error["message"] == "on purpose"


def test_output_that_is_never_the_same_twice_is_told_and_can_be_allowed(tmp_path: Path) -> None:
    matrix = crash_matrix(token, only=["commit:before:1", "commit:before:2"], directory=tmp_path / "remains")
    assert matrix.failures
    with pytest.raises(AssertionError, match="the run ended completed"):
        matrix.assert_ok()
    same = crash_matrix(token, same=lambda a, b: a.status == b.status, sample=3, directory=tmp_path / "same")
    same.assert_ok()


def test_a_workflow_that_drifts_is_caught_and_its_remains_are_kept(tmp_path: Path) -> None:
    matrix = crash_matrix(drifts, directory=tmp_path / "remains", same=lambda a, b: a == b, sample=40)
    problems = [problem for result in matrix.failures for problem in result.problems]
    assert any("paused 'drift'" in problem for problem in problems)
    kept = matrix.failures[0].directory
    assert (kept / "runs.db").exists()
    assert read_lines(kept / "witness.jsonl")
    assert str(kept) in str(matrix)


def test_a_workflow_that_drifts_without_any_crash_is_refused(tmp_path: Path) -> None:
    """It is let go of while it sleeps for a day, and is not the same when it is taken up again."""
    with pytest.raises(CrashMatrixError, match=r"without any crash, the run is parked: .*trim .* another input"):
        crash_matrix(drifts, length="1d", directory=tmp_path / "remains")


def test_each_point_has_a_working_folder_of_its_own_and_a_setup(tmp_path: Path) -> None:
    matrix = crash_matrix(drifts, setup=set_up, same=lambda a, b: False, sample=2, directory=tmp_path / "remains")
    assert [(result.directory / "work" / "was-set-up").exists() for result in matrix.points] == [True, True]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_cannot_be_found_from_another_process_is_refused(tmp_path: Path) -> None:
    @workflow
    async def local(run: Run) -> None:
        return None

    with pytest.raises(CrashMatrixError, match="no variable of a file"):
        crash_matrix(local, directory=tmp_path / "remains")
    with pytest.raises(CrashMatrixError, match="cannot be found"):
        crash_matrix(letter, "x", respond=lambda what: None, directory=tmp_path / "remains")
    with pytest.raises(DefinitionLoadError):
        crash_matrix(f"{tmp_path / 'nothing.py'}:letter", directory=tmp_path / "remains")


def test_wrong_input_is_refused_before_any_process_begins(tmp_path: Path) -> None:
    with pytest.raises(InputTypeError):
        crash_matrix(letter, directory=tmp_path / "remains")
    with pytest.raises(ValueRefusedError, match="expected str"):
        crash_matrix(letter, text=5, directory=tmp_path / "remains")


def test_an_input_may_have_the_name_of_an_option(tmp_path: Path) -> None:
    matrix = crash_matrix(seeded, input={"seed": 5}, seed=1, sample=2, directory=tmp_path / "remains")
    assert matrix.reference.output == 5


@workflow
async def seeded(run: Run, seed: int) -> int:
    await run.step(trim, "x")
    return seed


def test_a_file_that_cannot_be_loaded_in_the_processes_is_told(tmp_path: Path) -> None:
    file = tmp_path / "fragile.py"
    file.write_text("from tests.unit.testing.test_crash_matrix import letter\n")
    with pytest.raises(CrashMatrixError, match="has no function 'missing'"):
        crash_matrix(f"{file}:letter", "x", setup=f"{file}:missing", directory=tmp_path / "remains")


# --- the judge --------------------------------------------------------------------------------------------------------


def line(what: str, **fields: Any) -> dict[str, Any]:
    base = {"what": what, "process": 0, "run": "r", "scope": "0/main#1", "key": "k", "attempt": 1}
    call = {"step": "k", "kind": "once", "in_doubt": "ask", "epoch": 1, "idempotency_key": "i", "input": "x"}
    return base | (call if what == "called" else {}) | fields


def event(kind: str, seq: int = 2, **fields: Any) -> dict[str, Any]:
    payload = fields.pop("payload", {})
    return {"kind": kind, "seq": seq, "scope": "0/main#1", "key": "k", "epoch": 1, "payload": payload} | fields


INTENT = event("step.intended", payload={"attempt": 1, "idempotency_key": "i"})


def evidence(lines: list[dict[str, Any]], events: list[dict[str, Any]], status: str = "completed") -> Evidence:
    run = {"run_id": "r", "status": status, "problems": [], "events": events}
    return Evidence(lines, {"outcome": {"status": status}, "runs": [run]})


def test_the_judge_has_nothing_to_say_of_a_sound_run() -> None:
    fact = event("step.completed", payload={"fingerprint": "x"})
    assert judge(evidence([line("called"), line("returned")], [INTENT, fact])) == []


@pytest.mark.parametrize(
    ("lines", "events", "problem"),
    [
        ([line("called")], [], "began without a durable intent"),
        ([line("called")], [INTENT | {"epoch": 2}], "began without a durable intent"),
        ([line("called"), line("called")], [INTENT], "was called 2 times"),
        ([line("called"), line("effect", effect="e", kind="once")] * 2, [INTENT], "happened 2 times"),
        (
            [line("called", kind="idempotent"), line("called", kind="idempotent", input="y")],
            [INTENT],
            "with another input",
        ),
        (
            [line("called", kind="idempotent"), line("called", kind="idempotent", idempotency_key="j")],
            [INTENT, INTENT | {"payload": {"attempt": 1, "idempotency_key": "j"}}],
            "under another idempotency key",
        ),
        (
            [line("called"), line("called", epoch=2)],
            [INTENT, INTENT | {"epoch": 2}, event("step.completed")],
            "called again although its fact was durable",
        ),
        ([], [event("state.written"), event("state.written", 3)], "was written twice"),
        ([], [event("paid"), event("paid", 3)], "was written twice"),
        ([line("told", told="started", run="other")], [], "it was lost"),
        ([line("told", told="ended", status="completed")], [], "it was lost"),
    ],
)
def test_the_judge_sees(lines: list[dict[str, Any]], events: list[dict[str, Any]], problem: str) -> None:
    assert any(problem in found for found in judge(evidence(lines, events)))


def test_a_repeat_is_excused_when_somebody_said_that_nothing_had_happened() -> None:
    resolved = event("step.resolved", payload={"resolution": "not_done", "by": "person"})
    again = INTENT | {"payload": {"attempt": 2, "idempotency_key": "i"}}
    calls = [line("called"), line("called", attempt=2)]
    assert judge(evidence(calls, [INTENT, resolved, again])) == []
    assert judge(evidence([*calls, line("raised", refused=True)], [INTENT, again])) == []


def test_the_judge_compares_with_the_undisturbed_run() -> None:
    reference = evidence([line("called")], [INTENT])
    assert compare(evidence([line("called")], [INTENT]), reference) == []
    assert compare(evidence([], []), reference) == ["r/0/main#1/k was never called"]
    extra = evidence([line("called"), line("called", key="other"), line("called", key="third", kind="pure")], [INTENT])
    assert compare(extra, reference) == ["r/0/main#1/other was called, and is not when nothing crashes"]
    assert compare(evidence([line("called")], [INTENT], "failed"), reference)[0].startswith("the run ended failed")


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness.jsonl", 0, sync=True)
    witness.told("started", run="r")
    with (tmp_path / "witness.jsonl").open("ab") as file:
        file.write(b'{"what": "cal')
    assert [one["told"] for one in read_lines(tmp_path / "witness.jsonl")] == ["started"]
    assert read_lines(tmp_path / "missing") == []


def test_an_effect_outside_a_matrix_is_nothing() -> None:
    record_effect("posted", secret=Secret("env:NAME"))
