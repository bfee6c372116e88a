"""On a terminal: progress, questions, and no colours where nobody wants them."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.process.commandline import CommandLine, Terminal, end, reach

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])m")


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_question_is_asked_with_its_choices(perdure: CommandLine) -> None:
    terminal = Terminal(perdure, "run", "flows.py:publish", "-i", "topic=crashes", "--id", "p")
    asked = plain(terminal.reach("answer:"))
    assert "? Publish this?" in asked
    assert "1) yes" in asked
    assert "2) no" in asked
    assert "default: no" in asked
    terminal.type("perhaps\n")
    assert "'perhaps' is none of" in plain(terminal.reach("answer:"))
    terminal.type("1\n")
    code, text = terminal.rest()
    assert code == 0
    assert "crashes: yes" in plain(text)
    assert "journal verified" in text
    assert "✓ Publish this?" in plain(text)


def test_nothing_typed_takes_the_default(perdure: CommandLine) -> None:
    terminal = Terminal(perdure, "run", "flows.py:publish", "-i", "topic=crashes")
    terminal.reach("answer:")
    terminal.type("\n")
    code, text = terminal.rest()
    assert code == 0
    assert "crashes: no" in text


def test_the_end_of_the_input_leaves_the_question_open(perdure: CommandLine) -> None:
    terminal = Terminal(perdure, "run", "flows.py:publish", "-i", "topic=crashes", "--id", "p")
    terminal.reach("answer:")
    terminal.type("\x04")
    code, text = terminal.rest()
    assert code == 3
    assert "perdure answer p yes" in plain(text)


def test_an_answer_from_elsewhere_ends_the_prompt(perdure: CommandLine) -> None:
    terminal = Terminal(perdure, "run", "flows.py:publish", "-i", "topic=crashes", "--id", "p")
    terminal.reach("answer:")
    perdure("answer", "p", "yes")
    code, text = terminal.rest()
    assert code == 0
    assert "settled elsewhere" in text
    assert "crashes: yes" in text


def test_a_step_in_doubt_is_asked_about(perdure: CommandLine) -> None:
    with perdure.started("run", "flows.py:payer", "--id", "p") as process:
        reach(process, "AT pay")
        end(process, signal.SIGKILL)
    terminal = Terminal(perdure, "run", "flows.py", "--id", "p")
    assert "Did step pay" in plain(terminal.reach("decide later:"))
    terminal.type("d\n")
    terminal.reach("what it returned")
    terminal.type("5\n")
    assert "expected str" in plain(terminal.reach("decide later:"))
    terminal.type("done\n")
    terminal.reach("what it returned")
    terminal.type("paid by hand\n")
    code, text = terminal.rest()
    assert code == 0
    assert "paid by hand" in text
    assert perdure.effects() == ["look 5", "pay 5"]


def test_ctrl_c_ends_in_order_while_asking(perdure: CommandLine) -> None:
    terminal = Terminal(perdure, "run", "flows.py:who", "--id", "w")
    terminal.reach("answer:")
    terminal.type("\x03")
    code, text = terminal.rest()
    assert code == 3
    assert "perdure answer w TEXT" in plain(text)
    assert "Traceback" not in text


def test_progress_is_shown_and_coloured(perdure: CommandLine) -> None:
    perdure.go()
    code, text = Terminal(perdure, "run", "flows.py:job", "--id", "j").rest()
    assert code == 0
    for words in ("✓ look", "✓ write#2", "✓ look#3"):
        assert words in plain(text)
    assert COLOUR.search(text)


def test_no_color_is_respected(tmp_path: Path) -> None:
    perdure = CommandLine(tmp_path, NO_COLOR="1")
    perdure.go()
    for arguments in (["run", "flows.py:job", "--id", "j"], ["show", "j"], ["show", "none"]):
        _, text = Terminal(perdure, *arguments).rest()
        assert text
        assert not COLOUR.search(text)


def test_quiet_shows_the_output_alone(perdure: CommandLine) -> None:
    code, text = Terminal(perdure, "run", "flows.py:nap", "--quiet").rest()
    assert code == 0
    assert text.split() == ["rested"]


def test_a_run_that_waits_for_a_signal_is_stayed_with(perdure: CommandLine) -> None:
    terminal = Terminal(perdure, "run", "flows.py:order", "--id", "o")
    terminal.reach("paid [o1]")
    perdure("signal", "o", "paid", "--match", "o1", "--payload", '"yes"')
    code, text = terminal.rest()
    assert code == 0
    assert '"paid": "yes"' in plain(text)
