"""The tables of the documentation say what the code says."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from typer.main import get_command

from perdure.cli import exits
from perdure.cli.application import application
from perdure.core import kinds, policies
from perdure.core.errors import PerdureError
from perdure.engine.services import Limits
from perdure.workflow import loading
from perdure.workflow.effects import effect_kinds
from perdure.workflow.steps import step
from tests.docs.error_table import PAGE, error_classes, rendered, written
from tests.docs.pages import ROOT, table_rows

DOCS = ROOT / "docs"


def first_words(path: Path, first_column: str) -> list[str]:
    return [word.strip() for row in table_rows(path, first_column) for word in row[0].split(",")]


def strings_given_to(folder: Path, functions: set[str], keyword: str | None = None) -> set[str]:
    """The constant strings that functions of these names are given: as their first argument, or as `keyword=`."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in functions:
                given = [word.value for word in node.keywords if word.arg == keyword] if keyword else node.args[:1]
                found |= {one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def test_the_error_table_is_that_of_the_classes() -> None:
    assert written() == rendered(), "write it anew: python -m tests.docs.error_table"


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in error_classes()]
    assert sorted(set(codes)) == sorted(codes)
    assert {cls.code for cls in subclasses(PerdureError)} <= set(codes)


def subclasses(cls: type[PerdureError]) -> Iterator[type[PerdureError]]:
    for one in cls.__subclasses__():
        if one.__module__.startswith("perdure."):
            yield one
            yield from subclasses(one)


def test_problems_of_definitions_are_all_listed() -> None:
    variadic = {"signature_var_positional", "signature_var_keyword"}
    used = strings_given_to(ROOT / "perdure", {"Problem"}) | variadic
    listed = first_words(PAGE, "problem")
    assert sorted(listed) == sorted(used)


def test_codes_of_failed_runs_are_listed() -> None:
    failing = strings_given_to(ROOT / "perdure" / "workflow", {"Fail"}, "code")
    failing |= strings_given_to(ROOT / "perdure" / "workflow" / "topology.py", {"_error"})
    in_the_table = set(first_words(PAGE, "code")) - {cls.code for cls in error_classes()}
    assert failing <= in_the_table
    assert in_the_table - failing - {"no_next", "unknown_node", "node_failed"} == {"exception", "failed", "in_doubt"}


def test_reasons_of_files_that_cannot_be_loaded_are_listed() -> None:
    source = inspect.getsource(loading)
    text = PAGE.read_text().partition("## Files that cannot be loaded")[2]
    for reason in strings_given_to(ROOT / "perdure" / "workflow", {"_error"}) - {"node_failed", "no_next"}:
        if f'"{reason}"' in source:
            assert f"`{reason}`" in text, reason


def test_the_step_kinds_are_those_of_the_code() -> None:
    assert first_words(DOCS / "steps.md", "kind") == list(policies.KINDS)
    readme = first_words(ROOT / "README.md", "kind")
    assert readme == list(policies.KINDS)


def test_the_options_of_a_step_are_those_of_the_code() -> None:
    takes = [name for name in inspect.signature(step).parameters if name != "fn"]
    assert sorted(first_words(DOCS / "steps.md", "option")) == sorted(takes)
    in_doubt = [word.split(" ")[0] for word in first_words(DOCS / "steps.md", "in_doubt")]
    assert sorted(in_doubt) == sorted(typing.get_args(policies.InDoubt))


def test_the_effect_kinds_are_those_of_the_code() -> None:
    own = [name for name in effect_kinds() if "." not in name]
    assert set(first_words(DOCS / "flows-and-plans.md", "kind")) <= set(own)
    assert {"ask", "wait_for", "sleep", "sleep_until", "step", "spawn", "emit", "put"} <= set(
        first_words(DOCS / "flows-and-plans.md", "kind")
    )


def test_the_kernel_events_are_those_of_the_code() -> None:
    listed = {
        f"{noun}.{verb.strip()}"
        for noun, verbs in table_rows(DOCS / "architecture.md", "noun")
        for verb in verbs.split(",")
    }
    later = {kinds.PAYLOAD_ERASED, kinds.BOOKMARK_SET, kinds.HEAD_SIGNED}
    assert listed == set(kinds.KINDS) - later


def test_the_rooms_are_those_of_the_package() -> None:
    folders = {path.parent.name for path in (ROOT / "perdure").glob("*/__init__.py")}
    assert {Path(room).name for room in first_words(DOCS / "architecture.md", "room")} == folders


def test_every_reason_to_park_is_listed() -> None:
    reasons = {"paused"}
    for path in (ROOT / "perdure" / "engine").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in ("park", "_park", "_pause"):
                    texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
                    reasons |= {text for text in texts if isinstance(text, str)}
    assert sorted(first_words(DOCS / "concepts.md", "reason")) == sorted(reasons)


# --- the command line -------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """The real commands by name; those of a group with the group's name before theirs."""
    found: dict[str, Any] = {}
    for name, command in cast(Any, get_command(application())).commands.items():
        within = getattr(command, "commands", None)
        found |= {name: command} if within is None else {f"{name} {inner}": one for inner, one in within.items()}
    return found


def sections() -> dict[str, str]:
    """The sections of the page about single commands, by the command's name."""
    _, *parts = (DOCS / "cli.md").read_text().split("\n### perdure ")
    return {part.partition("\n")[0]: part.partition("\n## ")[0] for part in parts}


def options_of(command: Any) -> set[str]:
    return {word for one in command.params if one.param_type_name == "option" for word in one.opts} - {"--help"}


def listed_options(text: str) -> set[str]:
    table = text.partition("| option |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`(.*?)`", cell)}


def test_every_command_has_its_section() -> None:
    assert sorted(sections()) == sorted(commands())


def test_the_options_of_each_command_are_those_of_the_program() -> None:
    common = set(first_words(DOCS / "cli.md", "option")[:6])
    assert common == {"--store", "--server", "--token-file", "--json", "--as", "--command-id"}
    documented = {name: listed_options(text) for name, text in sections().items()}
    assert documented == {name: options_of(command) - common for name, command in commands().items()}


def test_the_exit_codes_are_those_of_the_program() -> None:
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert [int(row[0]) for row in table_rows(DOCS / "cli.md", "code")] == sorted(codes - {exits.INTERRUPTED})


def test_the_readme_names_every_command() -> None:
    told = " ".join(row[0] for row in table_rows(ROOT / "README.md", "command"))
    assert sorted(set(re.findall(r"[a-z]{2,}", told)) - {"perdure"}) == sorted(
        {name.partition(" ")[0] for name in commands()} - {"version"}
    )


def test_the_limits_are_those_of_the_code() -> None:
    defaults = {one.name: one.default for one in dataclasses.fields(Limits)}
    assert {row[0]: float(row[1]) for row in table_rows(DOCS / "python.md", "limit")} == defaults
