"""The command line, called in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from perdure.cli.application import invoke


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON value on standard output."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON values on standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        """The JSON error that is the last line on standard error."""
        return json.loads(self.err.splitlines()[-1])["error"]


Perdure = Callable[..., Ended]


@pytest.fixture
def perdure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perdure:
    """Calls the command line in an empty folder that has `flows.py`."""
    shutil.copy(Path(__file__).with_name("flows.py"), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERDURE_STORE", raising=False)

    def call(*arguments: str, code: int | None = 0) -> Ended:
        capsys.readouterr()
        found = invoke(arguments)
        ended = Ended(found, *capsys.readouterr())
        assert code is None or found == code, (arguments, ended)
        return ended

    return call
