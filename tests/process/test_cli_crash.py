"""`perdure run` is killed and called again: what is recorded is not done again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.process.commandline import CommandLine, Terminal, end, reach


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_a_killed_run_goes_on_where_it_was(perdure: CommandLine) -> None:
    with perdure.started("run", "flows.py:job", "--id", "j") as process:
        reach(process, "AT write 2")
        end(process, signal.SIGKILL)
    shown = perdure("show", "j").out
    assert "is gone" in shown
    assert "write (idempotent) was cut off in attempt 1; it is repeated under the same idempotency key" in shown
    assert perdure("ps", "--json").lines[0]["status"] == "running"
    assert "its worker is gone" in perdure("ps").out
    perdure.go()
    ended = perdure("run", "flows.py", "--id", "j", "--json")
    assert ended.json["output"] == ["w1", "w2", "w3"]
    assert ended.json["crashes"] == 1
    assert ended.json["kept"] == 3
    assert ended.json["verified"]["ok"] is True
    assert perdure.effects() == ["look 1", "write 1", "look 2", "write 2", "write 2", "look 3", "write 3"]
    steps = {step["key"]: step for step in perdure("show", "j", "--json").json["nodes"][0]["steps"]}
    assert [steps[key]["kept"] for key in ("look", "write", "look#2", "write#2", "look#3")] == [1, 1, 1, 0, 0]
    assert steps["write#2"]["attempts"] == 2
    table = perdure("show", "j").out
    assert "its worker was lost once; kept: 3 steps" in table
    assert table.count(" kept ") == 3


def test_a_once_step_that_was_killed_is_in_doubt_and_is_resolved(perdure: CommandLine) -> None:
    with perdure.started("run", "flows.py:payer", "--id", "p") as process:
        reach(process, "AT pay")
        end(process, signal.SIGKILL)
    assert "it is in doubt then" in perdure("show", "p").out
    perdure.go()
    waits = perdure("run", "flows.py", "--id", "p", code=4)
    assert "perdure resolve p pay --not-done" in waits.err
    assert waits.out == ""
    assert "in doubt" in perdure("show", "p").out
    [question] = perdure("questions", "--json").json
    assert (question["kind"], question["step"]) == ("doubt", "pay")
    perdure("resolve", "p", "pay", "--done", '{"not": "text"}')
    assert perdure("run", "flows.py", "--id", "p", "--json", code=4).json["in_doubt"][0]["key"] == "pay"
    perdure("resolve", "p", "--done", "paid by hand")
    assert perdure("run", "flows.py", "--id", "p").out == "paid by hand\n"
    assert perdure.effects() == ["look 5", "pay 5"]
    perdure("resolve", "p", "pay", "--fail", code=2)


def test_a_step_that_did_not_happen_is_tried_again(perdure: CommandLine) -> None:
    with perdure.started("run", "flows.py:payer", "--id", "p") as process:
        reach(process, "AT pay")
        end(process, signal.SIGKILL)
    perdure("run", "flows.py", "--id", "p", code=4)
    perdure("resolve", "p", "pay", "--not-done")
    perdure.go()
    assert perdure("run", "flows.py", "--id", "p").out == "paid 5\n"
    assert perdure.effects() == ["look 5", "pay 5", "pay 5"]


def test_a_new_run_mentions_one_that_lost_its_process(perdure: CommandLine) -> None:
    with perdure.started("run", "flows.py:job", "--id", "lost") as process:
        reach(process, "AT write 2")
        end(process, signal.SIGKILL)
    perdure.go()
    fresh = perdure("run", "flows.py:job")
    assert "run lost of the same workflow lost its process" in fresh.err
    assert perdure("ps", "--json").lines[0]["run_id"] == "lost"  # it was left as it is


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_says_how_to_go_on(perdure: CommandLine, number: signal.Signals) -> None:
    with perdure.started("run", "flows.py:job", "--id", "j") as process:
        reach(process, "AT write 2")
        perdure.go()
        process.send_signal(number)
        reach(process, "once more to leave at once")
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    ended = perdure("run", "flows.py:job", "--id", "j")
    assert ended.out == '["w1","w2","w3"]\n'


def test_a_drained_run_lets_its_steps_end_and_is_left_resumable(perdure: CommandLine) -> None:
    (perdure.folder / "slow.py").write_text(
        "import asyncio, sys\nfrom perdure import Run, step, workflow\n"
        "@step(kind='once')\nasync def slow() -> str:\n"
        "    print('AT slow', file=sys.stderr, flush=True)\n    await asyncio.sleep(0.5)\n    return 'done'\n"
        "@workflow\nasync def two(run: Run) -> str:\n    first = await run.step(slow)\n"
        "    await run.sleep('60s')\n    return first\n"
    )
    with perdure.started("run", "slow.py", "--id", "s") as process:
        reach(process, "AT slow")
        ended = end(process, signal.SIGTERM)
    assert ended.code == 7
    assert "perdure run slow.py --id s" in ended.err
    assert "journal verified" in ended.err
    shown = perdure("show", "s", "--json").json
    assert shown["crashes"] == 0
    assert [step["status"] for step in shown["nodes"][0]["steps"]] == ["done"]
    assert "is not finished" in ended.err


def test_on_a_terminal_the_kept_steps_are_shown(perdure: CommandLine) -> None:
    with perdure.started("run", "flows.py:job", "--id", "j") as process:
        reach(process, "AT write 2")
        end(process, signal.SIGKILL)
    perdure.go()
    code, text = Terminal(perdure, "run", "flows.py", "--id", "j").rest()
    assert code == 0
    assert "kept from before: 3 steps" in text
    assert "the worker was lost in attempt 1 of main#1; kept: 3 steps" in text
    assert "journal verified" in text


def test_a_second_process_waits_for_the_first_and_takes_over_when_it_dies(perdure: CommandLine) -> None:
    with perdure.started("run", "flows.py:job", "--id", "j") as first:
        reach(first, "AT write 2")
        with perdure.started("run", "flows.py", "--id", "j") as second:
            reach(second, "goes on behind record")
            assert perdure.effects().count("write 2") == 1
            perdure.go()
            end(first, signal.SIGKILL)
            out, _ = second.communicate(timeout=30)
    assert (second.returncode, out) == (0, '["w1","w2","w3"]\n')
    assert perdure.effects() == ["look 1", "write 1", "look 2", "write 2", "write 2", "look 3", "write 3"]
