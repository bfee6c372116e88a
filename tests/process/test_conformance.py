"""The conformance command: one JSON value on standard output, and an exit code."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ENDS = "start [shape=Mdiamond] exit [shape=Msquare]"
GRAPH = f"""digraph G {{ goal="ship"; {ENDS}
    subgraph cluster_a {{ label="Hard Part"; node [timeout=900s]; a [prompt="Do $goal", weight_of=1.5] }}
    start -> a -> exit [label="on"] }}"""
BRANCHES = f"""digraph B {{ {ENDS} P [shape=component] J [shape=tripleoctagon]
    x [shape=parallelogram, tool_command="echo x > $PERDURE_STAGE_DIR/x.txt"]
    y [shape=parallelogram, tool_command="exit 3"]
    start -> P  P -> x -> J  P -> y -> J  J -> exit }}"""
GATE = f'digraph A {{ {ENDS} g [shape=hexagon] b [prompt=b] start -> g  g -> exit [label="[Y] Yes"]  g -> b -> exit }}'


def conformance(folder: Path, *words: str, text: str | None = None) -> tuple[int, Any]:
    """Run the command; `FILE` among the words stands for a file with the text."""
    file = folder / "pipeline.dot"
    if text is not None:
        file.write_text(text)
    told = subprocess.run(
        [sys.executable, "-m", "perdure.cli.conformance", *(str(file) if word == "FILE" else word for word in words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return told.returncode, json.loads(told.stdout) if told.stdout else None


def test_parse_tells_attributes_as_written_or_given_by_defaults(tmp_path: Path) -> None:
    code, found = conformance(tmp_path, "parse", "FILE", text=GRAPH)
    assert code == 0
    assert (found["id"], found["graph_attrs"]) == ("G", {"goal": "ship"})
    nodes = {node["id"]: node["attrs"] for node in found["nodes"]}
    assert nodes["a"] == {"timeout": "900s", "prompt": "Do $goal", "weight_of": 1.5, "class": "hard-part"}
    assert found["edges"] == [
        {"from": "start", "to": "a", "attrs": {"label": "on"}},
        {"from": "a", "to": "exit", "attrs": {"label": "on"}},
    ]
    _, prepared = conformance(tmp_path, "parse", "FILE", "--prepared")
    assert {node["id"]: node["attrs"] for node in prepared["nodes"]}["a"]["prompt"] == "Do ship"


@pytest.mark.parametrize("verb", ["parse", "run"])
def test_a_syntax_error_is_told_with_its_place(tmp_path: Path, verb: str) -> None:
    code, found = conformance(tmp_path, verb, "FILE", text="digraph G {\n  a -- b }")
    assert code == 1
    assert (found["error"]["line"], found["error"]["column"]) == (2, 5)
    assert found["error"]["message"]


def test_validate_tells_diagnostics_and_refuses_errors(tmp_path: Path) -> None:
    code, found = conformance(tmp_path, "validate", "FILE", text="digraph G { start [shape=Mdiamond] }")
    assert code == 1
    assert "terminal_node" in [one["rule"] for one in found["diagnostics"] if one["severity"] == "error"]
    code, found = conformance(tmp_path, "validate", "FILE", text=f"digraph G {{ {ENDS} start -> exit }}")
    assert (code, found) == (0, {"diagnostics": []})


def test_a_refused_graph_is_not_run(tmp_path: Path) -> None:
    code, found = conformance(tmp_path, "run", "FILE", text="digraph G { start [shape=Mdiamond] }")
    assert code == 1
    assert found["diagnostics"]


def test_run_tells_path_context_and_artifacts_of_branches_too(tmp_path: Path) -> None:
    words = ("run", "FILE", "--context", '{"user": "ada", "a.b": 1}', "--artifacts", str(tmp_path / "kept"))
    code, found = conformance(tmp_path, *words, text=BRANCHES)
    assert (code, found["status"]) == (0, "success")
    assert found["path"][:2] == ["start", "P"]
    assert sorted(found["path"][2:4]) == ["x", "y"]
    assert found["path"][4:] == ["J", "exit"]
    assert (found["context"]["user"], found["context"]["a"]) == ("ada", {"b": 1})
    assert {"x/x.txt", "x/visit-1/x.txt", "y/status.json"} <= set(found["artifacts"])
    for path, sha in found["artifacts"].items():
        assert hashlib.sha256((tmp_path / "kept" / path).read_bytes()).hexdigest() == sha
    assert found["checkpoint"]["current_node"] == "exit"


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    text = f"""digraph F {{ {ENDS} t [shape=parallelogram, tool_command="exit 4"]
        start -> t -> exit [condition="outcome=success"] }}"""
    code, found = conformance(tmp_path, "run", "FILE", text=text)
    assert (code, found["status"]) == (1, "fail")
    assert "exit code 4" in found["failure_reason"]
    assert found["path"] == ["start", "t"]


def test_a_gate_takes_what_is_answered_and_without_it_the_run_is_cancelled(tmp_path: Path) -> None:
    code, found = conformance(tmp_path, "run", "FILE", "--answer", "Y", text=GATE)
    assert (code, found["path"]) == (0, ["start", "g", "exit"])
    code, found = conformance(tmp_path, "run", "FILE", text=GATE)
    assert (code, found["status"]) == (1, "cancelled")
    assert "nobody can answer" in found["failure_reason"]


def test_list_handlers_and_wrong_use(tmp_path: Path) -> None:
    code, found = conformance(tmp_path, "list-handlers")
    assert code == 0
    assert {"start", "exit", "codergen", "wait.human", "tool", "parallel.fan_in", "stack.manager_loop"} <= set(found)
    assert conformance(tmp_path, "no-such-verb")[0] == 2
    assert conformance(tmp_path, "parse", "missing.dot")[0] == 2
    assert conformance(tmp_path, "run", "FILE", "--context", "{", text=GATE)[0] == 2
