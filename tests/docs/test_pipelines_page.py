"""What `docs/pipelines.md` says is what the code does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from perdure.model.simulation import SimulatedBackend
from perdure.pipeline import top_level
from perdure.pipeline.branches import LONGEST_OUTPUT
from perdure.pipeline.commands.environment import ALLOWED, MORE_NAMES
from perdure.pipeline.commands.files import MOST_BYTES, MOST_FILES
from perdure.pipeline.commands.output import KEPT_BYTES
from perdure.pipeline.commands.running import GRACE_S
from perdure.pipeline.definition import LARGEST_FILE
from perdure.pipeline.fidelity import DEFAULT_FIDELITY
from perdure.pipeline.handler_types import SHAPES
from perdure.pipeline.preamble import CHARACTERS
from perdure.pipeline.retries import RETRY_PRESETS
from perdure.pipeline.run_context import LONGEST_NAME
from perdure.pipeline.syntax.parser import MAX_DEPTH
from perdure.pipeline.threads import LONGEST
from tests.docs.pages import ROOT, table_rows
from tests.docs.pipeline_tables import MEANINGS, PAGE, SETTINGS, TABLES, written


@pytest.mark.parametrize("table", TABLES)
def test_the_generated_tables_are_those_of_the_code(table: str) -> None:
    assert written(table) == TABLES[table](), "write it anew: python -m tests.docs.pipeline_tables"


@pytest.mark.parametrize("owner", SETTINGS)
def test_nothing_is_explained_that_there_is_not(owner: str) -> None:
    keys = {one.metadata["spec"].key for one in SETTINGS[owner].__dataclass_fields__.values() if one.metadata}
    assert set(MEANINGS[owner]) == keys


def test_the_shapes_are_those_of_the_code() -> None:
    rows = {row[0].partition(",")[0]: row[1] for row in table_rows(PAGE, "shape")}
    assert rows == dict(SHAPES)


def test_the_codes_of_failed_runs_are_those_of_the_code() -> None:
    tree = ast.parse((ROOT / "perdure" / "pipeline" / "top_level.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    failures = [call for call in calls if getattr(call.func, "id", "") in ("Fail", "Stopped")]
    given = [word.value for call in failures for word in call.keywords if word.arg == "code"]
    codes = {getattr(top_level, one.id) if isinstance(one, ast.Name) else ast.literal_eval(one) for one in given}
    assert {row[0] for row in table_rows(PAGE, "code")} == codes


def test_the_presets_of_retries_are_those_of_the_code() -> None:
    told = {row[0]: row[1:] for row in table_rows(PAGE, "preset")}
    assert set(told) == set(RETRY_PRESETS)
    for name, policy in RETRY_PRESETS.items():
        executions, delay, factor = told[name]
        assert int(executions) == policy.attempts
        if policy.attempts > 1:
            number, unit = delay.split()
            assert float(number) * {"ms": 0.001, "s": 1}[unit] == policy.backoff.initial_s
            assert float(factor) == policy.backoff.factor


def test_the_fidelities_are_those_of_the_code() -> None:
    told = {word.strip() for row in table_rows(PAGE, "fidelity") for word in row[0].split(",")}
    assert told == {*CHARACTERS, "full"}
    assert f"else the graph's `default_fidelity`, else `{DEFAULT_FIDELITY}`." in " ".join(PAGE.read_text().split())


def test_the_environment_of_commands_is_that_of_the_code() -> None:
    told = {word.strip() for row in table_rows(PAGE, "it finds") for word in row[0].split(",")}
    names = {name for name in ALLOWED if not name.startswith("LC_")}
    assert names | {"LC_*"} <= told
    assert f"whatever {MORE_NAMES} names in the worker's environment" in told


def test_the_limits_are_those_of_the_code() -> None:
    text = " ".join(PAGE.read_text().split())
    mebibyte = 1024 * 1024
    for said in (
        f"at most {LARGEST_FILE // mebibyte} MiB; subgraphs are nested at most {MAX_DEPTH} deep",
        f"{MOST_FILES} regular files are taken, {MOST_BYTES // mebibyte} MiB in all",
        f"is cut at {LONGEST_OUTPUT // 1024} KiB. A thread is told up to its last {LONGEST} exchanges",
        f"at most {LONGEST_NAME} characters",
    ):
        assert said in text, said
    assert (mebibyte, 1.0) == (KEPT_BYTES, GRACE_S)
    assert "the first MiB each is kept" in text
    assert "killed a second later" in text


async def test_the_simulated_answer_is_that_of_the_code() -> None:
    from perdure.model.request import Message, ModelRequest

    reply = await SimulatedBackend().complete(ModelRequest((Message("user", "?"),), metadata={"stage": "<id>"}))
    assert f"`{reply.text}`" in PAGE.read_text()


def test_every_example_pipeline_is_listed() -> None:
    listed = {row[0].partition("]")[0].removeprefix("[") for row in table_rows(PAGE, "file")}
    assert listed == {path.name for path in Path(ROOT / "examples").glob("*.dot")} - {"supervised_child.dot"}
