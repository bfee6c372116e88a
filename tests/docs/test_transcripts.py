"""The comparison of transcripts itself: it sees what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.transcripts import Command, check, commands_of, environment_for, matches, play


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["one", "two"], "one\ntwo\n", True),
        (["one", "two"], "one\nthree\n", False),
        (["one"], "one\ntwo\n", False),
        (["one", "two"], "one\nand\ntwo\n", False),
        (["one", "…", "two"], "one\nand\nand\ntwo\n", True),
        (["one", "…"], "two\n", False),
        (["run … ended"], "run x ended\n", True),
        (["run … ended"], "run x goes on\n", False),
        (["a  b"], "a b\n", True),
        (["a.b"], "axb\n", False),
    ],
)
def test_a_transcript_is_compared_line_by_line(expected: list[str], printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def test_commands_and_their_output_are_told_apart() -> None:
    lines = ["$ one \\", "  more", "printed", "$ two"]
    assert commands_of(lines, 10) == [Command(10, "one \\\n  more", ["printed"]), Command(13, "two", [])]


def test_commands_run_in_one_shell_and_their_exit_codes_are_seen(tmp_path: Path) -> None:
    commands = commands_of(["$ word=hello", "$ echo $word", "hello", "$ false", "$ echo $?", "1"], 1)
    results = play(commands, tmp_path, environment_for(tmp_path))
    assert results == [(0, ""), (0, "hello\n"), (1, ""), (0, "1\n")]
    check(commands, results, "here")


def test_a_command_that_fails_unseen_is_a_failure(tmp_path: Path) -> None:
    commands = commands_of(["$ false"], 1)
    results = play(commands, tmp_path, environment_for(tmp_path))
    with pytest.raises(AssertionError, match="exit code 1"):
        check(commands, results, "here")


def test_other_output_is_a_failure(tmp_path: Path) -> None:
    commands = commands_of(["$ echo one", "two"], 1)
    results = play(commands, tmp_path, environment_for(tmp_path))
    with pytest.raises(AssertionError, match="is said to print"):
        check(commands, results, "here")
