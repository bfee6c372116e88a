"""`perdure run`: every way in which a run can stand has its exit code, its output and its words."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.process.commandline import CommandLine, reach


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def journal_bytes(perdure: CommandLine, run_id: str) -> str:
    return perdure("events", run_id, "--json").out


def files(perdure: CommandLine) -> dict[str, bytes]:
    return {
        str(path.relative_to(perdure.folder)): path.read_bytes()
        for path in (perdure.folder / ".perdure").rglob("*")
        if path.is_file()
    }


# --- how a run may stand ----------------------------------------------------------------------------------------------


def test_0_completed_with_the_output_alone_on_standard_output(perdure: CommandLine) -> None:
    ended = perdure("run", "flows.py:nap", "--id", "n")
    assert ended.out == "rested\n"
    assert "run n completed" in ended.err
    assert "journal verified: " in ended.err
    assert "\x1b" not in ended.err + ended.out


def test_0_completed_as_json(perdure: CommandLine) -> None:
    data = perdure("run", "flows.py:nap", "--id", "n", "--json").json
    assert data["output"] == "rested"
    assert (data["run_id"], data["workflow"], data["status"], data["exit_code"]) == ("n", "nap", "completed", 0)
    assert data["verified"]["ok"] is True
    assert data["waits"] == data["why"] == data["next"] == []


def test_1_failed(perdure: CommandLine) -> None:
    ended = perdure("run", "flows.py:broken", "--id", "b", code=1)
    assert ended.out == ""
    assert "it failed: no good" in ended.err
    assert "perdure retry b" in ended.err
    data = perdure("run", "flows.py:broken", "--json", code=1).json
    assert data["error"]["type"] == "ValueError"
    assert data["exit_code"] == 1


def test_3_waits_for_a_person(perdure: CommandLine) -> None:
    ended = perdure("run", "flows.py:who", "--id", "w", code=3)
    assert ended.out == ""
    assert "perdure answer w TEXT" in ended.err
    assert "perdure run flows.py:who --id w" in ended.err
    data = perdure("run", "flows.py", "--id", "w", "--json", code=3).json
    assert [wait["question"]["text"] for wait in data["waits"]] == ["Who?"]
    perdure("answer", "w", "Ada")
    assert perdure("run", "flows.py", "--id", "w").out == "Ada\n"


def test_5_paused_and_parked(perdure: CommandLine) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    perdure("pause", "w")
    with perdure.started("run", "flows.py:order", "--id", "o", "--patience", "30s") as process:
        reach(process, "started")
        perdure.await_event("o", "run.suspended")
        perdure("pause", "o", "--as", "ada")
        _, err = process.communicate(timeout=30)
    assert process.returncode == 5
    assert "it was paused by person:ada" in err
    assert "perdure resume o" in err


def test_6_cancelled(perdure: CommandLine) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    perdure("cancel", "w", "--reason", "not needed")
    ended = perdure("run", "flows.py", "--id", "w", code=6)
    assert "it was cancelled: not needed" in ended.err


def test_7_waits_for_a_signal(perdure: CommandLine) -> None:
    ended = perdure("run", "flows.py:order", "--id", "o", code=7)
    assert "perdure signal o paid --payload JSON --match o1" in ended.err
    perdure("signal", "-", "paid", "--match", "o1", "--payload", '{"by": "card"}')
    assert perdure("run", "flows.py", "--id", "o").out == '{"paid":{"by":"card"}}\n'


def test_7_waits_for_a_timer_that_is_far_away(perdure: CommandLine) -> None:
    ended = perdure("run", "flows.py:nap", "-i", "time=3h", "--id", "n", code=7)
    assert "a timer: due in 3h" in ended.err
    assert perdure("ps", "--json").lines[0]["waits"][0]["kind"] == "timer"


def test_patience_is_how_long_a_run_that_only_waits_is_stayed_with(perdure: CommandLine) -> None:
    with perdure.started("run", "flows.py:order", "--id", "o", "--patience", "30s") as process:
        reach(process, "started")
        perdure("signal", "o", "paid", "--match", "o1", "--payload", "1")
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, '{"paid":1}\n')
    perdure("run", "flows.py:order", "--patience", "0.1s", code=7)


# --- going on ---------------------------------------------------------------------------------------------------------


def test_an_ended_run_gives_its_recorded_outcome_and_nothing_is_written(perdure: CommandLine) -> None:
    perdure("run", "flows.py:nap", "--id", "n")
    perdure("run", "flows.py:broken", "--id", "b", code=1)
    before = files(perdure)
    ended = perdure("run", "flows.py", "--id", "n")
    assert ended.out == "rested\n"
    assert "has ended already" in ended.err
    perdure("run", "flows.py", "--id", "b", code=1)
    assert files(perdure) == before


def test_the_same_id_with_another_input_or_workflow_is_a_conflict(perdure: CommandLine) -> None:
    perdure("run", "flows.py:publish", "-i", "topic=crashes", "--id", "p")
    before = journal_bytes(perdure, "p")
    assert "run_conflict" in perdure("run", "flows.py:publish", "-i", "topic=other", "--id", "p", code=2).err
    assert "run_conflict" in perdure("run", "flows.py:nap", "--id", "p", code=2).err
    assert perdure("run", "flows.py:publish", "-i", "topic=crashes", "--id", "p").out == "crashes: no\n"
    assert journal_bytes(perdure, "p") == before


def test_a_paused_run_goes_on_when_it_is_run(perdure: CommandLine) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    perdure("pause", "w")
    ended = perdure("run", "flows.py", "--id", "w", "--answer", "Ada")
    assert ended.out == "Ada\n"
    assert "run w was paused" in ended.err


def test_detach_only_starts_and_a_worker_does_the_rest(perdure: CommandLine) -> None:
    assert perdure("run", "flows.py:nap", "--id", "n", "--detach").out == "n\n"
    assert perdure("run", "flows.py:nap", "--detach", "--json").json["status"] == "pending"
    assert perdure("show", "n", "--json").json["status"] == "pending"
    assert "no live worker has loaded workflow 'nap'" in perdure("show", "n").out
    perdure("worker", "flows.py", "--once")
    assert perdure("show", "n", "--json").json["status"] == "completed"


def test_only_the_run_that_was_asked_for_is_executed(perdure: CommandLine) -> None:
    perdure("run", "flows.py:nap", "--id", "other", "--detach")
    perdure("run", "flows.py:nap", "--id", "mine")
    assert perdure("show", "other", "--json").json["status"] == "pending"


def test_children_are_executed_too_and_their_questions_answered(perdure: CommandLine) -> None:
    assert perdure("run", "flows.py:parent", "--id", "p").out == "3\n"
    assert perdure("run", "flows.py:parent", "--id", "q", "--answer", "no", "--answer", "yes").out in ("1\n", "2\n")
    children = perdure("show", "q", "--json").json["children"]
    assert [child["status"] for child in children] == ["completed", "completed"]


# --- questions --------------------------------------------------------------------------------------------------------


def test_without_a_terminal_a_question_takes_its_default_at_once(perdure: CommandLine) -> None:
    ended = perdure("run", "flows.py:publish", "-i", "topic=crashes", "--id", "p")
    assert ended.out == "crashes: no\n"
    assert "question 'Publish this?' took its default: no" in ended.err
    answered = [event for event in perdure("events", "p", "--json").lines if event["kind"] == "wait.answered"]
    assert [event["actor"] for event in answered] == ["service:perdure-run"]


def test_answers_are_given_beforehand(perdure: CommandLine) -> None:
    ended = perdure("run", "flows.py:publish", "-i", "topic=crashes", "--answer", "yes", "--answer", "spare")
    assert ended.out == "crashes: yes\n"
    assert "answers that nothing was asked for: spare" in ended.err


def test_an_answer_that_does_not_fit_leaves_the_question_open(perdure: CommandLine) -> None:
    refused = perdure("run", "flows.py:publish", "-i", "topic=x", "--id", "p", "--answer", "maybe", "--json", code=2)
    error = json.loads(refused.err.splitlines()[-1])["error"]
    assert (error["code"], error["ids"]["run_id"]) == ("answer_refused", "p")
    assert [wait["kind"] for wait in perdure("show", "p", "--json").json["waits"]] == ["question"]


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_inputs_come_from_files_and_pairs(perdure: CommandLine) -> None:
    (perdure.folder / "in.json").write_text('{"topic": "from the file"}')
    assert perdure("run", "flows.py:publish", "--input-file", "in.json").out == "from the file: no\n"
    assert perdure("run", "flows.py:publish", "--input-file", "in.json", "-i", "topic=mine").out == "mine: no\n"
    assert perdure("run", "flows.py:publish", "--input-file", "-", input='{"topic": "piped"}').out == "piped: no\n"
    assert perdure("run", "flows.py:publish", "-i", 'topic="5"').out == "5: no\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "flows.py:publish", "-i", "topic=5"], "input_type"),
        (["run", "flows.py:publish"], "input_type"),
        (["run", "flows.py:publish", "-i", "topic=x", "-i", "other=1"], "input_type"),
        (["run", "flows.py:publish", "-i", "topic"], "invalid_input"),
        (["run", "flows.py:publish", "-i", "topic=a", "-i", "topic=b"], "invalid_input"),
        (["run", "flows.py:publish", "--input-file", "none.json"], "invalid_input"),
        (["run", "flows.py:publish", "-i", 'topic={"a":1,"a":2}'], "value_refused"),
        (["run", "flows.py:publish", "-i", "topic=AKIAIOSFODNN7EXAMPLE"], "secret_shape"),
        (["run", "flows.py:nobody"], "definition_load"),
        (["run", "flows.py"], "definition_load"),
        (["run", "none.py"], "definition_load"),
        (["run", "flows.py:nap", "--id", "a b"], "invalid_id"),
        (["run", "flows.py:nap", "--tag", "a,b"], "invalid_id"),
        (["run", "flows.py:nap", "--skip-tag", "slow"], "invalid_plan"),
        (["run", "flows.py:nap", "--patience", "soon"], "invalid_duration"),
        (["run", "flows.py:nap", "--durability", "some"], "invalid_input"),
        (["run", "flows.py:nap", "--store", "runs.db"], "store_url"),
        (["run", "flows.py:nap", "--bogus"], "usage"),
    ],
)
def test_bad_input_meets_a_typed_error_before_anything_is_written(
    perdure: CommandLine, arguments: list[str], code: str
) -> None:
    before = sorted(path.name for path in perdure.folder.iterdir())
    refused = perdure(*arguments, "--json", code=2)
    assert refused.out == ""
    error = json.loads(refused.err)["error"]
    assert error["code"] == code
    assert error["message"]
    assert error.keys() == {"code", "category", "retryable", "message", "hint", "ids"} | (
        {"problems"} if code == "invalid_plan" else set()
    )
    after = sorted(path.name for path in perdure.folder.iterdir() if path.name != "__pycache__")
    assert after == before


def test_a_file_that_is_no_store_is_left_as_it_is(perdure: CommandLine) -> None:
    (perdure.folder / "notes.db").write_text("my notes\n")
    ended = perdure("run", "flows.py:nap", "--store", "sqlite:///notes.db", code=2)
    assert "code: not_a_store" in ended.err
    assert (perdure.folder / "notes.db").read_text() == "my notes\n"
    assert sorted(path.name for path in perdure.folder.iterdir() if path.suffix == ".db") == ["notes.db"]


def test_the_store_is_named_by_option_variable_or_default(perdure: CommandLine, tmp_path: Path) -> None:
    ended = perdure("run", "flows.py:who", "--id", "w", "--store", "sqlite:///a.db", code=3)
    assert "perdure answer --store sqlite:///a.db w TEXT" in ended.err
    by_variable = CommandLine(tmp_path, PERDURE_STORE="sqlite:///b.db")("run", "flows.py:who", "--id", "w", code=3)
    assert "perdure answer w TEXT" in by_variable.err
    assert (tmp_path / "a.db").exists()
    assert (tmp_path / "b.db").exists()
    assert not (tmp_path / ".perdure").exists()
    perdure("run", "flows.py:nap", "--store", "memory://")
    assert not (tmp_path / ".perdure").exists()
    perdure("run", "flows.py:nap")
    assert (tmp_path / ".perdure" / "runs.db").exists()


# --- definitions that changed -----------------------------------------------------------------------------------------


def test_changed_code_parks_the_run_and_says_where(perdure: CommandLine) -> None:
    text = (perdure.folder / "flows.py").read_text()
    perdure.go()
    (perdure.folder / "later.py").write_text(
        text
        + "\n@workflow\nasync def late(run: Run) -> str:\n    await run.step(pay, 5)\n    return await run.ask('Go?')\n"
    )
    perdure("run", "later.py:late", "--id", "l", code=3)
    changed = (perdure.folder / "later.py").read_text().replace("pay, 5", "pay, 6")
    (perdure.folder / "later.py").write_text(changed)
    parked = perdure("run", "later.py", "--id", "l", "--answer", "yes", code=5)
    for words in ("it is parked: drift", 'recorded: {"amount":5}', 'asked now: {"amount":6}', "differ at: $.amount"):
        assert words in parked.err
    shown = perdure("show", "l", "--json").json
    assert shown["paused"]["detail"]["path"] == "$.amount"
    assert "perdure resume l" in perdure("show", "l").out
    (perdure.folder / "later.py").write_text(changed.replace("pay, 6", "pay, 5"))
    assert perdure("run", "later.py", "--id", "l").out == "yes\n"
    assert perdure.effects() == ["pay 5"]


def test_a_changed_definition_is_accepted_without_the_file(perdure: CommandLine) -> None:
    text = (
        "from perdure import Run, workflow\n@workflow(version='1')\nasync def v(run: Run) -> str:\n"
        "    return await run.ask('Go?')\n"
    )
    (perdure.folder / "v.py").write_text(text)
    perdure("run", "v.py", "--id", "v", code=3)
    (perdure.folder / "v.py").write_text(text.replace("'1'", "'2'"))
    assert "definition_changed" in perdure("run", "v.py", "--id", "v", code=5).err
    assert "perdure resume v --accept-definition" in perdure("show", "v").out
    perdure("resume", "v", "--accept-definition")
    assert perdure("run", "v.py", "--id", "v", "--answer", "yes").out == "yes\n"


# --- streams ----------------------------------------------------------------------------------------------------------


def test_events_are_followed_until_the_run_has_ended(perdure: CommandLine) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    with perdure.started("events", "w", "--follow", "--json") as following:
        assert following.stdout is not None
        assert [json.loads(following.stdout.readline())["kind"] for _ in range(4)][-1] == "run.suspended"
        perdure("answer", "w", "Ada")
        assert json.loads(following.stdout.readline())["kind"] == "wait.answered"
        perdure("run", "flows.py", "--id", "w")
        out, _ = following.communicate(timeout=30)
    assert json.loads(out.splitlines()[-1])["kind"] == "run.completed"
    assert following.returncode == 0


def test_ctrl_c_ends_a_follower_quietly(perdure: CommandLine) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    with perdure.started("events", "w", "--follow") as following:
        assert following.stdout is not None
        following.stdout.readline()
        following.send_signal(signal.SIGINT)
        _, err = following.communicate(timeout=30)
    assert following.returncode == 130
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error(perdure: CommandLine) -> None:
    perdure("run", "flows.py:job", "-i", "count=1", "--id", "j")
    (perdure.folder / "many.py").write_text(
        "from perdure import Run, workflow\n@workflow\nasync def many(run: Run) -> None:\n"
        "    for n in range(3000):\n        run.emit('noted', {'text': 'x' * 100, 'n': n})\n"
    )
    perdure("run", "many.py", "--id", "m")
    with perdure.started("events", "m", "--json") as events:
        assert events.stdout is not None
        events.stdout.readline()
        events.stdout.close()
        assert events.stderr is not None
        err = events.stderr.read()
        assert events.wait(30) == 141
    assert err == ""
