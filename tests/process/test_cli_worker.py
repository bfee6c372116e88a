"""`perdure worker` executes what others start, says what it does, and drains when told to stop."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.process.commandline import CommandLine, end, reach


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_a_worker_executes_until_it_is_told_to_stop(perdure: CommandLine) -> None:
    with perdure.started("worker", "flows.py") as worker:
        reach(worker, "executes")
        perdure("run", "flows.py:nap", "--id", "n", "--detach")
        reach(worker, "run n: completed")
        perdure("run", "flows.py:who", "--id", "w", "--detach")
        reach(worker, "run w: waiting")
        assert "holds it ready" in perdure("show", "w").out
        assert "no live worker" not in perdure("answer", "w", "Ada").err
        reach(worker, "run w: completed")
        perdure("run", "flows.py:broken", "--id", "b", "--detach")
        reach(worker, "run b: failed (no good)")
        ended = end(worker, signal.SIGTERM)
    assert ended.code == 0
    assert "ended" in ended.err


def test_what_a_worker_does_as_json(perdure: CommandLine) -> None:
    perdure("run", "flows.py:nap", "--id", "n", "--detach")
    lines = perdure("worker", "flows.py", "--once", "--json").lines
    assert [line["event"] for line in lines if line.get("run_id") == "n"] == ["claimed", "waiting", "completed"]
    assert lines[0]["event"] == "began"
    assert "nap" in lines[0]["workflows"]
    assert lines[-1]["event"] == "ended"


def test_once_leaves_runs_that_wait(perdure: CommandLine) -> None:
    for number in range(5):
        perdure("run", "flows.py:nap", "--id", f"n{number}", "--detach")
    perdure("run", "flows.py:who", "--id", "w", "--detach")
    perdure("worker", "flows.py", "--once")
    states = {line["run_id"]: line["status"] for line in perdure("ps", "--all", "--json").lines}
    assert states == {f"n{number}": "completed" for number in range(5)} | {"w": "waiting"}


def test_a_worker_goes_on_with_what_a_dead_one_left(perdure: CommandLine) -> None:
    with perdure.started("worker", "flows.py") as worker:
        reach(worker, "executes")
        perdure("run", "flows.py:job", "--id", "j", "--detach")
        reach(worker, "AT write 2")
        end(worker, signal.SIGKILL)
    assert "gone and left runs in the middle" in perdure("doctor").out
    perdure.go()
    perdure("worker", "flows.py", "--once")
    shown = perdure("show", "j", "--json").json
    assert (shown["status"], shown["crashes"]) == ("completed", 1)
    assert perdure.effects().count("write 1") == 1


def test_a_run_and_a_worker_share_a_store(perdure: CommandLine) -> None:
    with perdure.started("worker", "flows.py") as worker:
        reach(worker, "executes")
        assert perdure("run", "flows.py:nap", "--id", "n").out == "rested\n"
        assert perdure("run", "flows.py:parent", "--id", "p").out == "3\n"
        end(worker)
    assert perdure("verify", "--all").code == 0
    assert perdure("doctor").code == 0


def test_a_worker_refuses_files_it_cannot_load(perdure: CommandLine) -> None:
    refused = perdure("worker", "flows.py", "none.py", "--json", code=2)
    assert json.loads(refused.err)["error"]["code"] == "definition_load"
    assert not (perdure.folder / ".perdure").exists()


def test_a_parked_run_is_told(perdure: CommandLine) -> None:
    text = "from perdure import Run, workflow\n@workflow(version='1')\nasync def v(run: Run) -> str:\n    return 'x'\n"
    (perdure.folder / "v.py").write_text(text)
    perdure("run", "v.py", "--id", "v", "--detach")
    (perdure.folder / "v.py").write_text(text.replace("'1'", "'2'"))
    perdure("worker", "v.py", "--once")
    assert perdure("ps", "--json").lines[0]["reason"] == "definition_changed"
    assert "is parked" in perdure("doctor").out


def test_logs_of_a_worker_are_one_object_a_line(perdure: CommandLine) -> None:
    perdure("run", "flows.py:broken", "--id", "b", "--detach")
    told = perdure("worker", "flows.py", "--once", "--quiet", "--log-format", "json", "--log-level", "warning").err
    (failed,) = [json.loads(line) for line in told.splitlines() if "failed" in line]
    assert (failed["run_id"], failed["level"], failed["logger"]) == ("b", "warning", "perdure.engine")
    text = perdure("run", "flows.py:broken", "--id", "c", "--detach")
    assert text.code == 0
    assert (
        "WARNING perdure.engine [c] run c: failed"
        in perdure("worker", "flows.py", "--once", "--quiet", "--log-level", "info").err
    )


@pytest.mark.parametrize("option", [("--log-format", "xml"), ("--log-level", "loud")])
def test_logs_that_cannot_be_are_refused(perdure: CommandLine, option: tuple[str, str]) -> None:
    refused = perdure("worker", "flows.py", "--once", *option, code=2)
    assert "is none of" in refused.err
