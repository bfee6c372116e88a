"""`ps`, `show`, `events`, `state`, `artifacts`."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.cli.times import span
from perdure.engine.ports import SystemClock
from tests.unit.cli.conftest import Perdure


def test_ps_lists_what_has_not_ended_and_all_if_asked(perdure: Perdure) -> None:
    perdure("run", "flows.py:rich", "--id", "r", "--tag", "a", "--tag", "b")
    perdure("run", "flows.py:who", "--id", "w", "--tag", "a", code=3)
    assert [row["run_id"] for row in perdure("ps", "--json").lines] == ["w"]
    assert [row["run_id"] for row in perdure("ps", "--all", "--json").lines] == ["w", "r"]
    assert [row["run_id"] for row in perdure("ps", "--status", "completed", "--json").lines] == ["r"]
    assert [row["run_id"] for row in perdure("ps", "-a", "--tag", "a", "--tag", "b", "--json").lines] == ["r"]
    assert [row["run_id"] for row in perdure("ps", "-a", "--workflow", "who", "--json").lines] == ["w"]
    limited = perdure("ps", "--all", "--limit", "1")
    assert limited.out.splitlines()[1].split()[:3] == ["w", "who", "waiting"]
    assert "there are more" in limited.err
    assert perdure("ps", "--status", "sleeping", "--json", code=2).error["code"] == "invalid_input"


def test_a_row_of_ps_as_json(perdure: Perdure) -> None:
    perdure("run", "flows.py:order", "--id", "o", code=7)
    [row] = perdure("ps", "--json").lines
    assert row.keys() == {
        *("run_id", "workflow", "version", "status", "reason", "created_ms", "updated_ms", "due_ms", "owner"),
        *("parent_id", "caller_owned", "tags", "waits"),
    }
    [wait] = row["waits"]
    assert (wait["kind"], wait["name"], wait["match"]) == ("signal", "paid", "o1")
    assert wait["deadline_ms"] == row["due_ms"]


def test_why_a_run_waits_stands_in_its_row(perdure: Perdure) -> None:
    perdure("run", "flows.py:payer", "--id", "p", code=4)
    perdure("run", "flows.py:order", "--id", "o", code=7)
    perdure("run", "flows.py:who", "--id", "w", "--detach")
    lines = {line.split()[0]: line for line in perdure("ps").out.splitlines()}
    assert "step in doubt" in lines["p"]
    assert "signal paid [o1]" in lines["o"]
    assert "no worker for it" in lines["w"]


def test_show_tells_steps_state_output_and_artifacts(perdure: Perdure) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    text = perdure("show", "r").out
    for words in (
        "✓ greeting.txt",
        "5 bytes",
        "✓ blob",
        "artifact ",
        "✓ noted",
        "✓ map[0] look",
        "✓ map[1] look",
        "✓ timer",
        "colour = green",
        "output\n  2",
    ):
        assert words in text, words
    data = perdure("show", "r", "--json").json
    steps = [(step["what"], step["key"], step["status"]) for step in data["nodes"][0]["steps"]]
    assert steps == [
        ("artifact", "put", "done"),
        ("step", "blob", "done"),
        ("event", "emit.noted", "done"),
        ("wait", "sleep", "done"),
        ("step", "look", "done"),
        ("step", "look", "done"),
    ]
    assert data["state"] == {"colour": "green"}
    assert data["output"] == 2


def test_show_tells_nodes_of_a_flow_and_where_they_led(perdure: Perdure) -> None:
    perdure("run", "flows.py:review", "--id", "f")
    lines = [line.split() for line in perdure("show", "f").out.splitlines()]
    nodes = [line for line in lines if line and "#" in line[0]]
    assert [line[0] for line in nodes] == ["draft#1", "judge#1", "draft#2", "judge#2"]
    assert [line[-2:] for line in nodes[:3]] == [["next:", "judge"], ["next:", "draft"], ["next:", "judge"]]


def test_show_gives_the_exact_commands(perdure: Perdure) -> None:
    perdure("run", "flows.py:two", "--id", "t", code=3)
    shown = perdure("show", "t").out
    first, second = (wait["wait_id"] for wait in perdure("show", "t", "--json").json["waits"])
    assert f"$ perdure answer --question {first} t red,green" in shown
    assert f"$ perdure answer --question {second} t yes" in shown
    perdure("answer", "--question", first, "t", "red,-blue")
    perdure("answer", "t", "yes")
    assert perdure("run", "flows.py", "--id", "t", "--json").json["output"] == [["red", "-blue"], True]


def test_show_of_a_parent_leads_to_its_child(perdure: Perdure) -> None:
    perdure("run", "flows.py:parent", "--id", "p", code=3)
    [child] = perdure("show", "p", "--json").json["children"]
    assert f"its child {child['run_id']} (who, waiting)" in perdure("show", "p").out
    perdure("answer", child["run_id"], "Ada")
    assert perdure("run", "flows.py", "--id", "p").out == "Ada\n"
    assert "parent" in perdure("show", child["run_id"]).out


def test_show_of_a_failed_run_says_what_failed_and_how_to_open_it_again(perdure: Perdure) -> None:
    perdure("run", "flows.py:checked", "--id", "c", code=1)
    text = perdure("show", "c").out
    for words in (
        "it failed: no good",
        "ValueError (exception)",
        "from: 0/main#1/check",
        "$ perdure retry c",
        "✗ check",
    ):
        assert words in text, words
    perdure("retry", "c", "--reason", "try")
    Path("go").touch()
    assert perdure("run", "flows.py", "--id", "c").out == "good\n"
    [_, step] = perdure("show", "c", "--json").json["nodes"][0]["steps"]
    assert step["status"] == "done"
    assert "opened again" in step["notes"][0]


def test_events_are_printed_in_order(perdure: Perdure) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    events = perdure("events", "r", "--json").lines
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0].keys() == {
        *("run_id", "seq", "time_ms", "kind", "node", "scope", "key", "actor", "epoch", "payload"),
    }
    assert perdure("events", "r", "--json", "--after", "3").lines == events[3:]
    assert perdure("events", "r", "--json", "--follow").lines == events  # it has ended
    assert len(perdure("events", "r").out.splitlines()) == len(events)


def test_state_at_every_event(perdure: Perdure) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    written = [event["seq"] for event in perdure("events", "r", "--json").lines if event["kind"] == "state.written"]
    assert perdure("state", "r").json == {"colour": "green"}
    assert perdure("state", "r", "--at", str(written[0] - 1)).json == {}
    assert perdure("state", "r", "--at", str(written[0])).json == {"colour": "red"}
    around = perdure("state", "r", "--at", str(written[1]), "--json").json
    assert (around["state"], around["status"], around["seq"]) == ({"colour": "green"}, "running", written[1])
    assert perdure("state", "r", "--at", "999", "--json", code=2).error["code"] == "invalid_input"


def test_artifacts_are_listed_and_given(perdure: Perdure, tmp_path: Path) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    found = perdure("artifacts", "r", "--json").json
    assert [(one["name"], one["size"], one["media_type"]) for one in found] == [
        ("greeting.txt", 5, "text/plain"),
        (None, 100_002, "application/json"),
    ]
    assert "greeting.txt" in perdure("artifacts", "r").out
    sha = found[0]["sha256"]
    assert perdure("artifacts", "r", "--get", sha[:8]).out == "hello"
    perdure("artifacts", "r", "--get", sha, "--out", "out.txt")
    assert (tmp_path / "out.txt").read_bytes() == b"hello"
    assert perdure("artifacts", "r", "--get", "0000", "--json", code=2).error["code"] == "artifact_not_found"
    assert perdure("artifacts", "r", "--out", "x", "--json", code=2).error["code"] == "usage"
    refused = perdure("artifacts", "r", "--get", sha, "--out", "none/x", "--json", code=2)
    assert refused.error["code"] == "invalid_input"


def test_an_artifact_as_json_is_json(perdure: Perdure, tmp_path: Path) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    [sha, _] = (one["sha256"] for one in perdure("artifacts", "r", "--json").json)
    given = perdure("artifacts", "r", "--get", sha, "--json").json
    assert given == {"sha256": sha, "size": 5, "data": "aGVsbG8="}
    written = perdure("artifacts", "r", "--get", sha, "--out", "out.txt", "--json")
    assert (written.json["path"], written.err) == ("out.txt", "")
    assert (tmp_path / "out.txt").read_bytes() == b"hello"


def test_a_run_lasts_from_its_start_to_its_end_whatever_comes_after(
    perdure: Perdure, monkeypatch: pytest.MonkeyPatch
) -> None:
    perdure("run", "flows.py:payer", "--id", "p", code=4)
    perdure("cancel", "p")
    events = perdure("events", "p", "--json").lines
    lasted = f"ended after {span(events[-1]['time_ms'] - events[0]['time_ms'])}"
    assert lasted in perdure("show", "p").out
    monkeypatch.setattr(SystemClock, "now_ms", lambda clock: events[-1]["time_ms"] + 3_600_000)
    perdure("resolve", "p", "pay", "--fail")
    assert perdure("events", "p", "--json").lines[-1]["time_ms"] >= events[-1]["time_ms"] + 3_600_000
    assert lasted in perdure("show", "p").out
    assert lasted.replace("ended after", "cancelled in") in perdure("run", "flows.py", "--id", "p", code=6).err


@pytest.mark.parametrize(
    "url", ["sqlite:///.", "sqlite:////proc/x.db", "sqlite:////tmp", "", "foo", "sqlite:///flows.py/x"]
)
@pytest.mark.parametrize(
    "command", [["ps"], ["run", "flows.py:rich"], ["worker", "flows.py", "--once"], ["pause", "x"]]
)
def test_a_path_where_no_store_can_be_is_wrong_use(perdure: Perdure, url: str, command: list[str]) -> None:
    error = perdure(*command, "--store", url, "--json", code=2).error
    assert error["code"] in ("store_url", "store_not_found")
    assert "sqlite:///" in error["hint"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["ps"],
        ["show", "x"],
        ["events", "x"],
        ["state", "x"],
        ["artifacts", "x"],
        ["questions"],
        ["answer", "x", "y"],
        ["signal", "x", "y"],
        ["cancel", "x"],
        ["pause", "x"],
        ["resume", "x"],
        ["retry", "x"],
        ["resolve", "x", "--fail"],
        ["verify", "x"],
        ["verify", "--all"],
        ["doctor"],
    ],
)
def test_a_missing_store_is_a_typed_error_and_nothing_is_made(
    perdure: Perdure, tmp_path: Path, arguments: list[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    assert perdure(*arguments, "--json", code=2).error["code"] == "store_not_found"
    assert perdure(*arguments, code=2).err.startswith("error: there is no store at")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "x"],
        ["events", "x"],
        ["state", "x"],
        ["artifacts", "x"],
        ["questions", "x"],
        ["answer", "x", "y"],
        ["signal", "x", "y"],
        ["cancel", "x"],
        ["pause", "x"],
        ["resume", "x"],
        ["retry", "x"],
        ["resolve", "x", "--fail"],
        ["verify", "x"],
    ],
)
def test_a_missing_run_is_a_typed_error(perdure: Perdure, arguments: list[str]) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    assert perdure(*arguments, "--json", code=2).error["code"] == "run_not_found"
    assert perdure(*[one.replace("x", "a b") for one in arguments], "--json", code=2).error["code"] == "invalid_id"
