"""The tests' own runner: it runs what it should, and no hang and no skip gets past it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def run_pytest(folder: Path, source: str, *, grace_s: float = 10.0, **environment: str) -> tuple[int, str]:
    """Run `source` as a test file of its own under the conftest of this project; return exit code and output."""
    conftest = (TESTS / "conftest.py").read_text()
    shortened = conftest.replace("GRACE_S = 10.0", f"GRACE_S = {grace_s}")
    assert grace_s == 10.0 or shortened != conftest
    (folder / "conftest.py").write_text(shortened)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = time_limit(seconds)\n")
    (folder / "test_it.py").write_text("import asyncio, time\nimport pytest\n" + source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-ra", str(folder)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PERDURE_NO_SKIPS"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
    )
    return done.returncode, done.stdout


async def test_an_async_test_runs_in_a_loop(store_path: Path) -> None:
    assert store_path.parent.is_dir()
    assert not store_path.exists()


@pytest.mark.parametrize("value", [1, 2])
async def test_an_async_test_takes_parameters_and_fixtures(value: int, tmp_path: Path) -> None:
    assert value in (1, 2)
    assert tmp_path.is_dir()


def test_a_failing_async_test_fails(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, "async def test_it():\n    await asyncio.sleep(0)\n    assert 1 == 2\n")
    assert code == 1
    assert "1 failed" in output


def test_hypothesis_finds_a_counterexample_in_an_async_test(tmp_path: Path) -> None:
    source = (
        "from hypothesis import given, settings, strategies\n"
        "@settings(database=None)\n"
        "@given(n=strategies.integers(0, 100))\n"
        "async def test_it(n):\n    await asyncio.sleep(0)\n    assert n < 7\n"
    )
    code, output = run_pytest(tmp_path, source)
    assert code == 1
    assert "n=7" in output


def test_an_async_hang_fails_with_the_stacks_of_its_tasks(tmp_path: Path) -> None:
    source = (
        "async def stuck_here():\n    await asyncio.Event().wait()\n"
        "@pytest.mark.time_limit(0.2)\n"
        "async def test_it():\n    await asyncio.create_task(stuck_here(), name='the stuck one')\n"
    )
    code, output = run_pytest(tmp_path, source)
    assert code == 1
    assert "not finished after 0.2 s" in output
    assert "in stuck_here" in output


def test_a_blocked_main_thread_fails_the_test_and_the_next_one_runs(tmp_path: Path) -> None:
    source = (
        "@pytest.mark.time_limit(0.2)\ndef test_blocked():\n    time.sleep(40)\n"
        "@pytest.mark.time_limit(0.2)\nasync def test_loop_blocked():\n    time.sleep(40)\n"
        "def test_next():\n    pass\n"
    )
    code, output = run_pytest(tmp_path, source, grace_s=0.3)
    assert code == 1
    assert "2 failed, 1 passed" in output
    assert "blocked the main thread for longer than 0.2 s" in output


def test_a_test_that_swallows_the_interrupt_ends_the_session(tmp_path: Path) -> None:
    source = (
        "@pytest.mark.time_limit(0.2)\ndef test_stubborn():\n"
        "    while True:\n        try:\n            time.sleep(40)\n        except TimeoutError:\n            pass\n"
    )
    code, output = run_pytest(tmp_path, source, grace_s=0.3)
    assert code == 1
    assert "Timeout (0:00:00.8" in output
    assert "in test_stubborn" in output


SKIPPED_TEST = "def test_it():\n    pytest.skip('no such tool here')\ndef test_known():\n    pytest.xfail('known')\n"
SKIPPED_MODULE = "pytest.skip('no such tool here', allow_module_level=True)\n"


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_MODULE], ids=["test", "module"])
def test_a_skip_is_a_failure_where_the_tests_must_be_complete(tmp_path: Path, source: str) -> None:
    code, output = run_pytest(tmp_path, source)
    assert "1 skipped" in output
    assert code in (0, 5)
    code, output = run_pytest(tmp_path, source, PERDURE_NO_SKIPS="1")
    assert code in (1, 2)
    assert "no such tool here" in output
    assert "skipped" not in output.splitlines()[-1]
