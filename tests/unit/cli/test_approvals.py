"""What is to be approved is shown before it is answered, and an answer names what was seen."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from rich.console import Console

from perdure.cli.approval import MOST_COLUMNS, MOST_LINES, approval_lines
from perdure.cli.prompts import Prompter
from perdure.engine.watching import Question
from tests.unit.cli.conftest import Perdure

FLOWS = """
from perdure import Run, workflow

@workflow
async def pay(run: Run, to: str = "Ada") -> str:
    return await run.ask("Pay?", choices=["yes", "no"], approve={"to": to, "amount": 12})

@workflow
async def soon(run: Run) -> str:
    return await run.ask("Pay?", choices=["yes", "no"], approve=12, default="no", timeout="3d")
"""
DOT = 'digraph G { start; exit; gate [shape=hexagon, prompt="Ship it?"]; start -> gate -> exit }'
HASH = sha256(rfc8785.dumps({"to": "Ada", "amount": 12})).hexdigest()


@pytest.fixture(autouse=True)
def _flows(perdure: Perdure) -> None:
    Path("pays.py").write_text(FLOWS)
    Path("gate.dot").write_text(DOT)


def question(approve: Any) -> Question:
    return Question("r", "q1", "w", "Pay?", "confirm", (), None, False, None, None, (), approve, "abc")


# --- commands ---------------------------------------------------------------------------------------------------------


def test_what_is_to_be_approved_is_listed_and_the_commands_name_its_hash(perdure: Perdure) -> None:
    perdure("run", "pays.py:pay", "--id", "p", code=3)
    [found] = perdure("questions", "--json").json
    assert (found["approve"], found["hash"]) == ({"to": "Ada", "amount": 12}, HASH)
    listed = perdure("questions").out
    assert f"to approve, hash {HASH}:" in listed
    assert '      "to": "Ada"' in listed
    assert len(found["commands"]) == 2
    assert all(f"--saw {HASH}" in command for command in found["commands"])
    perdure(*shlex.split(found["commands"][0])[1:], "--as", "clerk")
    assert perdure("run", "pays.py", "--id", "p").out == "yes\n"
    [event] = [event for event in perdure("events", "p", "--json").lines if event["kind"] == "wait.answered"]
    assert (event["actor"], event["payload"]["saw"]) == ("person:clerk", HASH)


def test_an_answer_without_the_hash_or_with_another_is_refused(perdure: Perdure) -> None:
    perdure("run", "pays.py:pay", "--id", "p", code=3)
    missing = perdure("answer", "p", "yes", "--json", code=2).error
    assert missing["code"] == "answer_refused"
    assert "--saw HASH" in missing["hint"]
    stale = perdure("answer", "p", "yes", "--saw", "0" * 64, "--json", code=2).error
    assert (stale["code"], stale["ids"]["saw"]) == ("approval_stale", "0" * 64)
    sent = perdure("answer", "p", "yes", "--saw", HASH, "--command-id", "c1", "--json").json
    assert (sent["answer"], sent["saw"]) == ("yes", HASH)
    perdure("answer", "p", "yes", "--saw", HASH, "--command-id", "c1")
    again = perdure("answer", "p", "yes", "--saw", "0" * 64, "--command-id", "c1", "--json", code=2).error
    assert again["code"] == "command_conflict"
    perdure("run", "flows.py:who", "--id", "w", code=3)
    assert perdure("answer", "w", "Ada", "--saw", HASH, "--json", code=2).error["code"] == "answer_refused"


@pytest.mark.parametrize(
    ("workflow", "given"), [("pay", ["--answer", "yes"]), ("soon", []), ("soon", ["--answer", "yes"])]
)
def test_nothing_is_approved_that_nobody_has_seen(perdure: Perdure, workflow: str, given: Sequence[str]) -> None:
    ended = perdure("run", f"pays.py:{workflow}", "--id", "p", *given, code=3)
    assert "question 'Pay?' stays open: nobody here has seen what is to be approved" in ended.err
    assert "what is to be approved: perdure questions p" in ended.err
    assert "--saw" in ended.err
    if given:
        assert "answers that nothing was asked for: yes" in ended.err
    assert len(perdure("questions", "p", "--json").json) == 1


def test_a_gate_with_one_choice_is_declined_by_the_word_false(perdure: Perdure) -> None:
    perdure("run", "gate.dot", "--id", "g", code=3)
    [found] = perdure("questions", "--json").json
    assert found["declinable"]
    command = shlex.split(found["commands"][-1])
    assert command[-1] == "false"
    for _ in range(2):  # the second one is a resend
        perdure(*command[1:], "--command-id", "c1")
    ended = perdure("run", "gate.dot", "--id", "g", "--json", code=1)
    assert "declined" in ended.json["error"]["message"]
    perdure("run", "gate.dot", "--id", "h", "--answer", "false", code=1)
    perdure("run", "gate.dot", "--id", "i", "--answer", "exit", code=0)


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_what_is_long_is_cut_and_says_so() -> None:
    lines = approval_lines(question({"text": "x" * 1000, "more": list(range(100))}))
    assert len(lines) == MOST_LINES + 2
    assert max(map(len, lines)) <= MOST_COLUMNS + 2
    assert lines[-1] == "  … (65 lines more; the whole: perdure questions r --json)"
    wide = approval_lines(question("x" * 1000))
    assert wide[-1] == "  … (the whole: perdure questions r --json)"
    assert approval_lines(question([1])) == ["to approve, hash abc:", "  [", "    1", "  ]"]


def test_what_a_terminal_would_obey_or_hide_is_escaped() -> None:
    [_, shown] = approval_lines(question("pay 1\x1b[2K\x9b \u202e000\u2066 \u200bü€\x7f\n"))
    assert shown == '  "pay 1\\u001b[2K\\u009b \\u202e000\\u2066 \\u200bü€\\u007f\\n"'


async def test_a_prompt_shows_the_value_before_it_asks() -> None:
    screen = io.StringIO()
    shown_before: list[str] = []

    async def read() -> str:
        shown_before.append(screen.getvalue())
        return "yes"

    assert await Prompter(Console(file=screen), read).answer(question({"to": "Ada"})) is True
    assert '"to": "Ada"' in shown_before[0]
    assert "to approve, hash abc" in shown_before[0]
