"""Approvals with a person at a terminal, and with kills between the decision and its use."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.process.commandline import CommandLine, Terminal, end, reach

FLOWS = """
from pathlib import Path

from perdure import Run, step, workflow


@step(kind="once")
async def transfer(to: str) -> str:
    with Path("effects").open("a") as file:
        file.write(f"transfer to {to}\\n")
    return f"paid {to}"


@workflow
async def pay(run: Run, to: str = "Ada") -> str:
    answer = await run.ask("Pay?", choices=["yes", "no"], approve={"to": to, "amount": 12})
    return await run.step(transfer, to) if answer == "yes" else "kept"
"""


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    (tmp_path / "pays.py").write_text(FLOWS)
    return CommandLine(tmp_path)


def test_a_terminal_shows_what_is_to_be_approved_and_answers_with_its_hash(perdure: CommandLine) -> None:
    terminal = Terminal(perdure, "run", "pays.py:pay", "--id", "p", "--answer", "no")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.reach("answer:"))
    assert '"amount": 12' in shown
    assert "to approve, hash" in shown
    terminal.type("yes\n")
    code, text = terminal.rest()
    assert code == 0
    assert "answers that nothing was asked for: no" in text
    [event] = [event for event in perdure("events", "p", "--json").lines if event["kind"] == "wait.answered"]
    assert event["payload"]["saw"] in shown
    assert perdure.effects() == ["transfer to Ada"]


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_kill_between_the_answer_and_its_use_loses_nothing(perdure: CommandLine, answer: str) -> None:
    """The process that waits is stopped, so that it never hears of the answer, and then killed."""
    with perdure.started("run", "pays.py:pay", "--id", "p", "--patience", "60s") as process:
        reach(process, "started")
        perdure.await_event("p", "wait.opened")
        process.send_signal(signal.SIGSTOP)
        [before] = perdure("questions", "--json").json
        perdure("answer", "p", answer, "--saw", before["hash"], "--command-id", "c1")
        end(process, signal.SIGKILL)
    assert perdure.effects() == []
    assert perdure("questions", "--json").json == []
    perdure("answer", "p", answer, "--saw", before["hash"], "--command-id", "c1")  # sent again: recognised
    for _ in range(2):
        ended = perdure("run", "pays.py", "--id", "p", "--json")
        assert ended.json["output"] == ("paid Ada" if answer == "yes" else "kept")
    assert perdure.effects() == (["transfer to Ada"] if answer == "yes" else [])
    kinds = [event["kind"] for event in perdure("events", "p", "--json").lines]
    assert (kinds.count("wait.opened"), kinds.count("wait.answered")) == (1, 1)
    assert perdure("verify", "p").code == 0


def test_a_question_keeps_its_id_its_value_and_its_hash_over_a_kill(perdure: CommandLine) -> None:
    with perdure.started("run", "pays.py:pay", "--id", "p", "--patience", "60s") as process:
        reach(process, "started")
        perdure.await_event("p", "wait.opened")
        before = perdure("questions", "--json").json
        end(process, signal.SIGKILL)
    assert perdure("questions", "--json").json == before
    perdure("run", "pays.py", "--id", "p", code=3)
    assert perdure("questions", "--json").json == before
    assert len(before) == 1
