"""`validate`, `graph` and `fmt` as a person uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

SOUND = "digraph d {\n  start; exit // the end\n  a [prompt=x]\n start -> a->exit\n}"
BROKEN = "digraph d { start; a [prompt=x]; start -> a }"
GATED = "digraph g { start; exit; ask [shape=hexagon, label=Go]; later [prompt=x]; start -> ask -> later -> exit }"


def perdure(folder: Path, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perdure", *words],
        cwd=folder,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("sound", SOUND), ("broken", BROKEN), ("gated", GATED), ("bad", "digraph d { a -- b }")):
        (tmp_path / f"{name}.dot").write_text(text)
    return tmp_path


def test_validate_tells_rule_place_and_caret_and_exits_with_1(folder: Path) -> None:
    told = perdure(folder, "validate", "sound.dot", "broken.dot", "bad.dot")
    assert told.returncode == 1
    assert "broken.dot" in told.stdout
    assert "terminal_node" in told.stdout
    assert "^" in told.stdout
    assert "bad.dot:1:15" in told.stdout
    found = [json.loads(line) for line in perdure(folder, "validate", "broken.dot", "--json").stdout.splitlines()]
    assert {one["file"] for one in found} == {"broken.dot"}
    assert perdure(folder, "validate", "sound.dot").returncode == 0


def test_an_invalid_pipeline_is_not_run_and_nothing_is_written(folder: Path) -> None:
    told = perdure(folder, "run", "broken.dot")
    assert (told.returncode, told.stdout) == (2, "")
    assert "pipeline_invalid" in told.stderr
    assert not (folder / ".perdure").exists()


def test_fmt_writes_the_canonical_form_once_and_keeps_comments(folder: Path) -> None:
    assert perdure(folder, "fmt", "--check", "sound.dot").returncode == 1
    assert (folder / "sound.dot").read_text() == SOUND
    assert perdure(folder, "fmt", "sound.dot").returncode == 0
    written = (folder / "sound.dot").read_text()
    assert "// the end" in written
    assert perdure(folder, "fmt", "--check", "sound.dot").returncode == 0
    assert perdure(folder, "fmt", "-", given=SOUND).stdout == written


def test_fmt_leaves_a_file_alone_that_it_cannot_read(folder: Path) -> None:
    told = perdure(folder, "fmt", "bad.dot")
    assert told.returncode == 2
    assert "bad.dot:1:" in told.stderr or "parse_error" in told.stderr
    assert (folder / "bad.dot").read_text() == "digraph d { a -- b }"


def test_graph_draws_a_run_with_what_waits_and_what_has_not_run(folder: Path) -> None:
    assert perdure(folder, "run", "gated.dot", "--id", "g").returncode == 3
    found = json.loads(perdure(folder, "graph", "g", "--json").stdout)
    statuses = {node["id"]: node["status"] for node in found["nodes"]}
    assert statuses == {"start": "done", "ask": "waiting", "later": "none", "exit": "none"}
    assert [edge["count"] for edge in found["edges"] if edge["from"] == "start"] == [1]


@pytest.mark.parametrize(
    ("format", "begins"), [("text", "d"), ("svg", "<svg"), ("dot", "digraph"), ("mermaid", "---"), ("json", "{")]
)
def test_graph_draws_a_file_in_every_format(folder: Path, format: str, begins: str) -> None:
    told = perdure(folder, "graph", "sound.dot", "--format", format, "--output", "out")
    assert told.returncode == 0, told.stderr
    text = (folder / "out").read_text()
    assert text.startswith(begins)
    if format == "svg":
        ElementTree.fromstring(text)


def test_graph_refuses_what_there_is_not(folder: Path) -> None:
    assert perdure(folder, "graph", "sound.dot", "--format", "png").returncode == 2
    perdure(folder, "run", "gated.dot", "--id", "g")
    assert perdure(folder, "graph", "nobody").returncode == 2
