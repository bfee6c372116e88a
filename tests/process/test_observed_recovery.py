"""`kill -9` in the middle of a run: no span is doubled or lost, and replayed code logs nothing again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from perdure.integrations.opentelemetry import trace_id_of

ROOT = Path(__file__).parents[2]


def started(place: Path) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "tests.process.observed_program", f"sqlite:///{place / 'runs.db'}"]
    files = [str(place / name) for name in ("spans", "logs", "trap")]
    return subprocess.Popen([*program, *files], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kills", [1, 3])
def test_spans_and_logs_over_kills(tmp_path: Path, kills: int) -> None:
    (tmp_path / "trap").touch()
    for _ in range(kills):
        with started(tmp_path) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "hanging\n"
            process.kill()
    (tmp_path / "trap").unlink()
    with started(tmp_path) as process:
        assert process.communicate(timeout=40)[0] == "done\n"

    spans = lines_of(tmp_path / "spans")
    assert Counter(span["name"] for span in spans) == {"compute": 1, "send": 3, "hang": 1, "story": 1}
    assert len({span["context"]["span_id"] for span in spans}) == len(spans)
    assert {span["context"]["trace_id"] for span in spans} == {"0x" + trace_id_of("the-run")}
    (whole,) = [span for span in spans if span["name"] == "story"]
    assert {span["parent_id"] for span in spans if span is not whole} == {whole["context"]["span_id"]}
    (hung,) = [span for span in spans if span["name"] == "hang"]
    assert hung["attributes"]["perdure.attempts"] == kills + 1

    said = [line["message"] for line in lines_of(tmp_path / "logs") if line["logger"] == "perdure.run.story"]
    once = ["begun", "sending 2", "sent", "sending 3", "sending 4", "mapped"]
    assert said == [*once, *(f"attempt {number}" for number in range(1, kills + 2)), "beyond"]
    taken = [line for line in lines_of(tmp_path / "logs") if "taken over" in line["message"]]
    assert [line["run_id"] for line in taken] == ["the-run"] * kills
