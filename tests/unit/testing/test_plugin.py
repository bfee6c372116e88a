"""The pytest plugin, in sessions of its own: nothing but pytest and Perdure is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run_pytest(folder: Path, source: str, *options: str) -> tuple[int, str]:
    """Run `source` as a test file; exit code and output."""
    (folder / "test_it.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "perdure.testing.plugin", "-p", "no:cacheprovider", "-ra", *options],
        cwd=folder,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
    )
    return done.returncode, done.stdout


REMINDER = """
from perdure import Run, step, workflow

@step(kind="idempotent")
async def remind(name: str) -> str:
    text = f"dear {name}"
    return text

@workflow
async def reminder(run: Run, name: str) -> str:
    await run.sleep("30d")
    return await run.step(remind, name)
"""


def test_an_async_test_gets_an_open_runtime_and_a_clock(tmp_path: Path) -> None:
    code, output = run_pytest(
        tmp_path,
        REMINDER
        + """
async def test_after_a_month(perdure_runtime, perdure_clock):
    handle = await perdure_runtime.start(reminder, "Ada")
    await perdure_clock.advance("29d")
    assert await handle.status() == "waiting"
    await perdure_clock.advance("1d")
    assert await handle.result() == "dear Ada"

async def test_it_may_be_opened_by_hand_too(perdure_runtime, perdure_clock):
    async with perdure_runtime as runtime:
        handle = await runtime.start(reminder, "Bob")
        assert await perdure_clock.until(handle.result()) == "dear Bob"
""",
    )
    assert code == 0, output
    assert "2 passed" in output


def test_an_async_test_that_fails_fails(tmp_path: Path) -> None:
    code, output = run_pytest(
        tmp_path,
        """
import pytest

async def test_fails(perdure_clock):
    assert perdure_clock.now().year == 1999

@pytest.mark.perdure
async def test_marked():
    assert False, "it was run"
""",
    )
    assert code == 1
    assert "2 failed" in output
    assert "it was run" in output


def test_a_test_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, "async def test_of_another_library():\n    pass\n")
    assert code == 1
    assert "not natively supported" in output


def test_a_store_on_disk_and_a_crash_matrix(tmp_path: Path) -> None:
    code, output = run_pytest(
        tmp_path,
        REMINDER
        + """
from perdure import Runtime

async def test_on_disk(perdure_sqlite, perdure_clock):
    async with Runtime(perdure_sqlite, clock=perdure_clock) as runtime:
        handle = await runtime.start(reminder, "Ada")
        assert await perdure_clock.until(handle.result()) == "dear Ada"

def test_everywhere(perdure_crash_matrix):
    matrix = perdure_crash_matrix(reminder, "Ada")
    matrix.assert_ok()
    assert len(matrix.points) > 10
""",
    )
    assert code == 0, output
    assert "2 passed" in output


def test_loading_the_plugin_loads_no_engine(tmp_path: Path) -> None:
    code, output = run_pytest(
        tmp_path,
        """
import sys

def test_what_is_loaded():
    heavy = {"apsw", "orjson", "pydantic", "asyncio", "perdure.engine.runtime", "perdure.core.errors"}
    assert "perdure.testing.plugin" in sys.modules
    assert heavy & set(sys.modules) == set()
""",
    )
    assert code == 0, output
