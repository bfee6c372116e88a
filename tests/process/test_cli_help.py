"""`--help` is quick: the command line imports nothing of the engine before a command needs it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.commandline import PERDURE, ROOT, CommandLine

HELP_BUDGET_S = 0.2
NOT_FOR_HELP = {
    "apsw",
    "asyncio",
    "orjson",
    "perdure.engine",
    "perdure.journal",
    "perdure.store",
    "perdure.workflow.graph",
    "pydantic",
    "rich",
}


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def processor_s() -> float:
    """The processor time of all ended children of this process: it does not count what others do to the machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_takes_less_than_200_ms(perdure: CommandLine) -> None:
    took = []
    for _ in range(5):
        start = processor_s()
        perdure("--help")
        took.append(processor_s() - start)
    assert min(took) < HELP_BUDGET_S


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a command line has loaded when it is done."""
    program = (
        "import sys\nfrom perdure.cli.application import invoke\n"
        f"code = invoke({list(arguments)!r})\nprint('LOADED', *sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "perdure.cli.application" in loaded
    return loaded


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_imports_nothing_of_the_engine(option: str) -> None:
    assert loaded_by(option) & NOT_FOR_HELP == set()


@pytest.mark.parametrize("command", ["run", "worker", "show", "answer", "doctor"])
def test_the_help_of_a_command_imports_nothing_of_the_engine(command: str) -> None:
    # The library of the command line validates arguments with pydantic, which knows asyncio.
    assert loaded_by(command, "--help") & (NOT_FOR_HELP - {"pydantic", "asyncio"}) == set()


def test_every_command_has_help_and_a_heading(perdure: CommandLine) -> None:
    text = perdure("--help").out
    for command in (
        *("run", "worker", "ps", "show", "events", "state", "artifacts", "questions", "answer", "signal", "cancel"),
        *("pause", "resume", "retry", "resolve", "verify", "doctor", "version"),
    ):
        assert f"\n  {command} " in text, command
    assert "Exit codes: 0 completed, 1 failed, 2 wrong use" in " ".join(text.split())


def test_no_arguments_show_the_help(perdure: CommandLine) -> None:
    assert perdure().out == perdure("--help").out


def test_the_package_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run([*PERDURE, "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("perdure ")


def test_completion_offers_run_ids_and_makes_no_store(perdure: CommandLine, tmp_path: Path) -> None:
    perdure("run", "flows.py:nap", "--id", "nap-1")
    perdure("run", "flows.py:who", "--id", "who-1", code=3)
    words = {"_PERDURE_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    shown = CommandLine(tmp_path, COMP_WORDS="perdure show na", **words)()
    assert shown.out.split() == ["nap-1"]
    unfinished = CommandLine(tmp_path, COMP_WORDS="perdure answer ", **words)()
    assert unfinished.out.split() == ["who-1"]
    elsewhere = CommandLine(tmp_path, COMP_WORDS="perdure show ", PERDURE_STORE="sqlite:///none.db", **words)()
    assert elsewhere.out.split() == []
    assert not (tmp_path / "none.db").exists()
