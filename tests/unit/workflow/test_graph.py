"""The graph itself: what nodes return, fingerprints, descriptions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure.workflow.function import workflow
from perdure.workflow.graph import Done, Fail, Graph, Next, check_version
from perdure.workflow.plan import Plan
from tests.unit.workflow.fake_run import FakeRun


def function_graph(version: str = "1", **parameters: type) -> Graph:
    async def example(run: FakeRun, a: int = 1) -> int:
        return a

    async def other(run: FakeRun, b: int = 1) -> int:
        return b

    fn: Any = other if "b" in parameters else example
    return workflow(name="example", version=version)(fn).compile()


def test_what_nodes_return_is_plain_data() -> None:
    assert Next("a", "b", output=1) == Next("a", "b", output=1)
    assert Next("a").nodes == ("a",)
    assert Done() == Done(None)
    with pytest.raises(AttributeError):
        Next("a").output = 2  # type: ignore[misc]


def test_a_failure_is_recorded_like_any_error() -> None:
    assert Fail("no", code="mine", details={"a": 1}).to_error() == {
        "code": "mine",
        "type": "Fail",
        "message": "no",
        "details": {"a": 1},
    }


@pytest.mark.parametrize("version", ["1", "2.0.1", "2026-01-01", "1.0+build_3", "v1"])
def test_versions(version: str) -> None:
    assert check_version(version) == version


def test_the_fingerprint_is_of_the_structure() -> None:
    base = function_graph()
    assert base.fingerprint == function_graph().fingerprint
    assert len(base.fingerprint) == 64
    assert function_graph(version="2").fingerprint != base.fingerprint
    assert function_graph(b=int).fingerprint != base.fingerprint
    assert base.code != function_graph(b=int).code


def test_the_fingerprint_does_not_change_with_the_program() -> None:
    """Runs that are recorded under it must be known again by later versions of Perdure."""

    @workflow(name="pinned")
    async def pinned(run: FakeRun, b: int, a: str = "x") -> None: ...

    plan = Plan("pinned", mode="fan_out")
    plan.state("m.s.a", lambda n: n, kind="pure", tags=["t"])
    plan.state("m.s.b", lambda run: 1, after=["m.s.a"])
    assert pinned.compile().fingerprint == PINNED_FUNCTION
    assert plan.compile().fingerprint == PINNED_PLAN


PINNED_FUNCTION = "7c86662ddc897b309430a86f4367768b140293177db2a2fa960e5eb5804d91a1"
PINNED_PLAN = "25dd2997710f75193872e932db9625a7f078bfa1aec06319b8900ef1318df4f8"


def test_a_graph_describes_itself_as_json() -> None:
    shape = function_graph().describe()
    assert json.loads(json.dumps(shape)) == shape
    assert (shape["name"], shape["version"], shape["form"], shape["concurrency"]) == ("example", "1", "function", 1)
    assert shape["nodes"] == [{"name": "main"}]
    assert shape["edges"] == []
    assert shape["input"]["properties"] == {"a": {"type": "integer", "default": 1}}


def test_the_authoring_forms_load_nothing_heavy() -> None:
    program = (
        "import sys; import perdure.workflow.plan, perdure.workflow.flow, perdure.workflow.function;"
        "import perdure.workflow.registry, perdure.workflow.loading;"
        "print(*{'asyncio', 'pydantic', 'apsw', 'typer', 'rich', 'rfc8785'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.split() == []
