"""`questions`, `answer`, `signal`, `cancel`, `pause`, `resume`, `retry`, `resolve`."""

from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.unit.cli.conftest import Perdure


def test_questions_are_listed_with_the_commands_that_answer_them(perdure: Perdure) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    perdure("run", "flows.py:two", "--id", "t", code=3)
    found = perdure("questions", "--json").json
    assert [(one["run_id"], one["kind"]) for one in found] == [("w", "text"), ("t", "multiple"), ("t", "confirm")]
    assert [one["run_id"] for one in perdure("questions", "t", "--json").json] == ["t", "t"]
    command = shlex.split(found[2]["commands"][0])
    assert command[0] == "perdure"
    perdure(*command[1:])
    assert [one["kind"] for one in perdure("questions", "t", "--json").json] == ["multiple"]
    assert "$ perdure answer --question" in perdure("questions").out


def test_no_questions_are_no_error(perdure: Perdure) -> None:
    perdure("run", "flows.py:rich")
    assert perdure("questions", "--json").json == []
    assert perdure("questions").err == "no open questions\n"


def test_answer_tells_who_goes_on(perdure: Perdure) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    answered = perdure("answer", "w", "Ada", "--as", "clerk")
    assert answered.out == ""
    assert "run w: answered; it is running now" in answered.err
    assert "perdure run FILE --id w" in answered.err
    [event] = [event for event in perdure("events", "w", "--json").lines if event["kind"] == "wait.answered"]
    assert event["actor"] == "person:clerk"


def test_a_second_answer_is_refused_and_a_resend_is_recognised(perdure: Perdure) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    [wait] = perdure("show", "w", "--json").json["waits"]
    first = perdure("answer", "w", "Ada", "--command-id", "c1", "--json").json
    assert (first["command_id"], first["answer"]) == ("c1", "Ada")
    before = perdure("events", "w", "--json").lines
    perdure("answer", "w", "Ada", "--command-id", "c1")
    for arguments, code in (
        (["w", "Bob"], "wait_closed"),
        (["w", "Bob", "--question", wait["wait_id"]], "wait_closed"),
        (["w", "Bob", "--question", "q0"], "wait_not_found"),
    ):
        assert perdure("answer", *arguments, "--json", code=2).error["code"] == code
    assert perdure("events", "w", "--json").lines == before


@pytest.mark.parametrize("value", ["purple", "red,red", "5"])
def test_an_answer_that_is_no_choice_is_refused(perdure: Perdure, value: str) -> None:
    perdure("run", "flows.py:two", "--id", "t", code=3)
    [wait, _] = perdure("questions", "t", "--json").json
    refused = perdure("answer", "t", value, "--question", wait["wait_id"], "--json", code=2).error
    assert refused["code"] == "answer_refused"
    assert refused["hint"] == "choices: red, green, -blue"


def test_several_questions_need_a_name(perdure: Perdure) -> None:
    perdure("run", "flows.py:two", "--id", "t", code=3)
    assert perdure("answer", "t", "yes", "--json", code=2).error["code"] == "wait_not_found"


def test_signals_go_to_a_run_or_to_the_one_that_waits(perdure: Perdure) -> None:
    perdure("run", "flows.py:order", "--id", "o", code=7)
    assert perdure("signal", "-", "paid", "--match", "o2", "--json", code=2).error["code"] == "wait_not_found"
    perdure("signal", "o", "paid", "--match", "o2", "--payload", "1")  # kept, and not what it waits for
    sent = perdure("signal", "-", "paid", "--match", "o1", "--payload", '{"by":"card"}', "--json").json
    assert (sent["run_id"], sent["signal"]) == ("o", "paid")
    assert perdure("run", "flows.py", "--id", "o").out == '{"by":"card"}\n'
    assert "nobody read" in perdure("show", "o").out
    assert perdure("signal", "o", "paid", "--json", code=2).error["code"] == "run_ended"


def test_a_payload_is_json(perdure: Perdure) -> None:
    perdure("run", "flows.py:order", "--id", "o", code=7)
    refused = perdure("signal", "o", "paid", "--payload", "hello", "--json", code=2).error
    assert refused["code"] == "invalid_input"
    assert """--payload '"hello"'""" in refused["hint"]
    assert perdure("signal", "o", "no name", "--json", code=2).error["code"] == "invalid_id"


def test_a_sender_id_counts_once(perdure: Perdure) -> None:
    perdure("run", "flows.py:order", "--id", "o", code=7)
    for _ in range(2):
        perdure("signal", "o", "other", "--sender-id", "s1")
    received = [event for event in perdure("events", "o", "--json").lines if event["kind"] == "signal.received"]
    assert len(received) == 1


def test_cancel_ends_a_run_that_nobody_executes(perdure: Perdure) -> None:
    perdure("run", "flows.py:parent", "--id", "p", code=3)
    assert perdure("cancel", "p", "--reason", "no need", "--json").json["status"] == "cancelled"
    [child] = perdure("show", "p", "--json").json["children"]
    assert child["status"] == "cancelled"
    assert "it was cancelled: no need" in perdure("show", "p").out
    assert perdure("cancel", "p").code == 0  # it is what was asked for
    perdure("run", "flows.py:rich", "--id", "r")
    assert perdure("cancel", "r", "--json", code=2).error["code"] == "run_ended"


def test_pause_and_resume(perdure: Perdure) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    assert perdure("pause", "w", "--as", "ada", "--json").json["status"] == "paused"
    assert "it was paused by person:ada" in perdure("show", "w").out
    perdure("answer", "w", "Ada")
    assert perdure("resume", "w", "--json").json["status"] == "running"
    assert perdure("resume", "w", "--json", code=2).error["code"] == "wrong_state"
    assert perdure("run", "flows.py", "--id", "w").out == "Ada\n"


def test_accepting_a_definition_that_nobody_changed_is_refused(perdure: Perdure) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    waiting = perdure("resume", "w", "--accept-definition", "--json", code=2).error
    assert (waiting["code"], waiting["message"]) == ("wrong_state", "run w is waiting, not paused")
    perdure("pause", "w")
    paused = perdure("resume", "w", "--accept-definition", "--json", code=2).error
    assert paused["code"] == "wrong_state"
    assert "no definition to accept: it is paused" in paused["message"]
    assert "'perdure resume w'" in paused["hint"]
    assert perdure("show", "w", "--json").json["status"] == "paused"
    perdure("cancel", "w")
    assert perdure("resume", "w", "--accept-definition", "--json", code=2).error["code"] == "run_ended"


def test_a_changed_definition_of_the_same_version_says_what_may_differ(perdure: Perdure) -> None:
    text = (
        "from perdure import Run, workflow\n@workflow\nasync def v(run: Run{}) -> str:\n"
        "    return await run.ask('Go?')\n"
    )
    Path("v.py").write_text(text.format(""))
    perdure("run", "v.py", "--id", "v", code=3)
    Path("v.py").write_text(text.format(", more: int = 1"))
    perdure("run", "v.py", "--id", "v", code=5)
    [why] = perdure("show", "v", "--json").json["why"]
    assert "both say version 1; their structure differs: the form, the names of parameters" in why["details"][0]
    assert "fingerprint when it began" in why["details"][1]
    perdure("resume", "v", "--accept-definition", "--command-id", "c1")
    perdure("resume", "v", "--accept-definition", "--command-id", "c1")  # a resend


def test_a_damaged_run_hides_no_question_of_another(perdure: Perdure, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        perdure("run", "flows.py:who", "--id", name, code=3)
    with closing(apsw.Connection(str(tmp_path / ".perdure" / "runs.db"))) as connection:
        connection.execute(
            "UPDATE events SET payload = x'7b7d' WHERE seq = 3 AND run = (SELECT number FROM runs WHERE run_id = 'b')"
        )
    ended = perdure("questions", "--json", code=1)
    assert [one["run_id"] for one in ended.json] == ["a", "c"]
    assert (ended.error["code"], ended.error["ids"]["run_id"]) == ("corrupt_record", "b")
    ended = perdure("questions", code=1)
    assert [line.split()[0] for line in ended.out.splitlines() if line.endswith("Who?")] == ["a", "c"]
    assert "record 3 of run b" in ended.err


def test_a_cancelled_run_whose_step_was_resolved_is_in_doubt_no_more(perdure: Perdure) -> None:
    for name, option, status in (
        ("d", ["--done", "1"], "done"),
        ("n", ["--not-done"], "not done"),
        ("f", ["--fail"], "failed"),
    ):
        perdure("run", "flows.py:payer", "--id", name, code=4)
        perdure("cancel", name)
        before = perdure("show", name, "--json").json
        assert [point["text"] for point in before["why"]] == ["it was cancelled", "step pay is in doubt"]
        assert before["nodes"][0]["steps"][0]["status"] == "in doubt"
        assert before["in_doubt"] == [{"scope": "0/main#1", "key": "pay"}]
        perdure("resolve", name, "pay", *option)
        shown = perdure("show", name, "--json").json
        assert [point["text"] for point in shown["why"]] == ["it was cancelled"]
        assert shown["nodes"][0]["steps"][0]["status"] == status
        assert shown["in_doubt"] == perdure("state", name, "--json").json["in_doubt"] == []
        assert perdure("resolve", name, "pay", *option, "--json", code=2).error["code"] == "not_in_doubt"


def test_retry_is_for_runs_that_have_ended(perdure: Perdure) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    assert perdure("retry", "w", "--json", code=2).error["code"] == "not_reopenable"
    perdure("run", "flows.py:rich", "--id", "r")
    assert perdure("retry", "r", "--json", code=2).error["code"] == "not_reopenable"


@pytest.mark.parametrize(
    ("option", "code", "status"), [(["--done", "paid"], 0, "completed"), (["--fail"], 1, "failed")]
)
def test_a_doubt_is_resolved(perdure: Perdure, option: list[str], code: int, status: str) -> None:
    perdure("run", "flows.py:payer", "--id", "p", code=4)
    perdure("resolve", "p", "pay", *option)
    assert perdure("run", "flows.py", "--id", "p", "--json", code=code).json["status"] == status
    assert perdure("resolve", "p", "--fail", "--json", code=2).error["code"] == "not_in_doubt"


def test_what_is_not_in_doubt_cannot_be_resolved(perdure: Perdure) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    assert perdure("resolve", "w", "--fail", "--json", code=2).error["code"] == "not_in_doubt"
    assert perdure("resolve", "w", "pay", "--fail", "--json", code=2).error["code"] == "step_not_found"
    for options in ([], ["--fail", "--not-done"], ["--done", "1", "--fail"]):
        assert perdure("resolve", "w", *options, "--json", code=2).error["code"] == "usage"
