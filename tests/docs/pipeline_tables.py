"""The tables of attributes and rules in `docs/pipelines.md`, made from the code that reads and checks them.

`python -m tests.docs.pipeline_tables` writes them anew.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Final

from perdure.pipeline.attributes import AttributeSpec
from perdure.pipeline.handler_types import BUILT_IN, CONDITIONAL, EXIT, PARALLEL, START
from perdure.pipeline.rules import Rules
from perdure.pipeline.rules import rule as rules
from perdure.pipeline.settings import EdgeSettings, GraphSettings, NodeSettings
from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "pipelines.md"
SETTINGS: Final = {"graph": GraphSettings, "node": NodeSettings, "edge": EdgeSettings}

MEANINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "graph": {
        "goal": "what it is for; stands for `$goal` in prompts",
        "label": "its title",
        "model_stylesheet": "which stages use which model",
        "default_max_retries": "how often a failed stage is executed again",
        "retry_target": "where to go when a goal gate is not satisfied",
        "fallback_retry_target": "the same, if `retry_target` is no node",
        "default_fidelity": "what models are told; `compact` if nothing says more",
        "thread_id": "the thread of all stages that name none",
        "stack.child_dotfile": "the child pipeline's file",
        "stack.child_workdir": "where the child's commands run",
        "max_steps": "stages of a run",
        "max_visits": "visits of a node",
        "goal_gate_limit": "redirects for one goal gate",
        "rankdir": "the direction of the drawing",
    },
    "node": {
        "label": "its title; the id, if omitted",
        "shape": "of the drawing; decides the type",
        "type": "of the handler",
        "class": "for the stylesheet; several with commas",
        "prompt": "what is asked; the label, if omitted",
        "max_retries": "how often it is executed again after a failure; the graph's, if omitted",
        "max_visits": "how often it is visited; the graph's, if omitted",
        "goal_gate": "the exit is closed until it has ended well",
        "retry_target": "where to go after a failure that no edge leads on from, and for a goal gate",
        "fallback_retry_target": "the same, if `retry_target` is no node",
        "allow_partial": "when the executions are used up, that counts as `partial_success`",
        "auto_status": "a handler that gave no outcome has succeeded",
        "timeout": "of one execution",
        "fidelity": "what the model is told",
        "thread_id": "the conversation that it belongs to",
        "llm_model": "which model",
        "llm_provider": "for backends that choose between several",
        "reasoning_effort": "how long the model may think",
        "tool_command": "for the shell",
        "tool_argv": "a program and its arguments, without a shell",
        "effect": "what a crash in the middle means",
        "in_doubt": "what becomes of a `once` command that a crash cut off",
        "join_policy": "when a fan-out has succeeded",
        "quorum": "successes that `k_of_n` takes",
        "max_parallel": "branches at a time",
        "human.timeout": "how long to wait for an answer; for ever, if omitted",
        "human.default_choice": "what counts after the timeout: a key, a label or a target",
        "human.input": "one of the edges, or any text",
        "human.multiple": "several choices may be given",
        "manager.poll_interval": "how long a cycle waits",
        "manager.max_cycles": "how many there are",
        "manager.stop_condition": "ends the watching",
        "manager.actions": "what a cycle does",
        "stack.child_autostart": "`false` fails: nothing else starts the child",
    },
    "edge": {
        "label": "its text; what a person chooses, and what a preferred label names",
        "condition": "when it may be taken",
        "weight": "the higher goes first",
        "fidelity": "what the model behind it is told",
        "thread_id": "the conversation of the stage behind it",
        "loop_restart": "begins the run anew at its target",
    },
}

_READERS: Final[Mapping[frozenset[str], str]] = {
    BUILT_IN - {START, EXIT}: "all but `start` and `exit`",
    BUILT_IN - {START, EXIT, CONDITIONAL}: "all but `start`, `exit` and `conditional`",
    BUILT_IN - {PARALLEL}: "after all but `parallel`",
}
"""Words for long lists of handler types."""


def attributes() -> str:
    """The tables of attributes, in Markdown."""
    parts = []
    for owner, settings in SETTINGS.items():
        rows = [_cells(f"attribute of the {owner}", "value", "default", "read by", "meaning"), "|---|---|---|---|---|"]
        for one in dataclasses.fields(settings):
            spec: AttributeSpec | None = one.metadata.get("spec")
            if spec is not None:
                readers = "" if owner == "graph" else _readers(spec.read_by)
                names = ", ".join(f"`{name}`" for name in (spec.key, *spec.aliases))
                meaning = MEANINGS[owner][spec.key]
                rows.append(_cells(names, spec.kind.name, _shown(spec, one.default), readers, meaning))
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(spec: AttributeSpec, default: object) -> str:
    if default is None or default == "" or default == ():
        return ""
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    if isinstance(default, float) and "duration" in spec.kind.name:
        return f"`{default:g}s`"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _readers(types: frozenset[str] | None) -> str:
    if types is None:
        return "all stages"
    return _READERS.get(types) or ", ".join(f"`{one}`" for one in sorted(types))


def rule_table(given: Iterable[object] = rules) -> str:
    """The table of rules, in Markdown: errors first."""
    assert isinstance(given, Rules)
    rows = ["| rule | severity | what holds |", "|---|---|---|"]
    ordered = sorted(
        (one for one in given if one.check.__module__.startswith("perdure.")), key=lambda one: one.severity
    )
    for one in ordered:
        text = " ".join((one.check.__doc__ or "").partition("\n\n")[0].split())
        rows.append(f"| `{one.name}` | {one.severity} | {text} |")
    rows.insert(2, "| `parse_error` | error | The file is inside the grammar. |")
    return "\n".join(rows) + "\n"


TABLES: Final = {"attributes": attributes, "rules": rule_table}
END: Final = "<!-- end -->\n"


def begin_of(table: str) -> str:
    """The line above a table."""
    return f"<!-- made by tests/docs/pipeline_tables.py: {table} begin -->\n"


def written(table: str) -> str:
    """The table as it stands in the page."""
    return PAGE.read_text().partition(begin_of(table))[2].partition(END)[0].strip("\n") + "\n"


if __name__ == "__main__":
    for name, render in TABLES.items():
        before, _, rest = PAGE.read_text().partition(begin_of(name))
        PAGE.write_text(f"{before}{begin_of(name)}\n{render()}\n{END}{rest.partition(END)[2]}")
