"""Which variables a command gets."""

from __future__ import annotations

import pytest

from perdure.pipeline.commands import allowed_environment


def test_what_a_program_needs_is_passed() -> None:
    needed = {name: name.lower() for name in ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TERM")}
    needed |= {name: name.lower() for name in ("USER", "LOGNAME", "SHELL", "VIRTUAL_ENV")}
    assert allowed_environment(needed, {}) == needed


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "PERDURE_MODEL_KEY", "LC_TOKEN", "PATH_TO_KEY", "path"],
)
def test_nothing_else_is_passed(name: str) -> None:
    assert allowed_environment({name: "x", "PERDURE_TOOL_ENV": ""}, {}) == {}


def test_further_names_can_be_allowed() -> None:
    environ = {"CI": "1", "SSH_AUTH_SOCK": "/s", "OTHER": "x", "PERDURE_TOOL_ENV": " CI, SSH_AUTH_SOCK,,MISSING"}
    assert allowed_environment(environ, {}) == {"CI": "1", "SSH_AUTH_SOCK": "/s"}


def test_what_is_given_wins() -> None:
    assert allowed_environment({"HOME": "/a"}, {"HOME": "/b", "X": "y"}) == {"HOME": "/b", "X": "y"}
