"""`@step(isolation="process")`: calls in real processes, and how these end."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from perdure import Limits, Runtime, Secret
from perdure.core.errors import DefinitionError, RunFailed, StepResultError
from perdure.store.memory import MemoryStore
from perdure.testing.clock import VirtualClock
from perdure.workflow.loading import load_file
from tests.process import isolated_steps as steps

ROOT = Path(__file__).parents[2]
CANARY = "correct horse battery staple"


async def outcome_of(workflow: Any, *args: Any, **options: Any) -> Any:
    async with Runtime("memory://", **options) as runtime:
        return await (await runtime.start(workflow, *args)).result()


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A pipe with a name, into which a step writes process ids."""
    path = tmp_path / "pids"
    os.mkfifo(path)
    return path


async def until_told(path: Path) -> list[int]:
    """The process ids that a step wrote."""
    return [int(pid) for pid in (await asyncio.to_thread(path.read_text)).split()]


def is_gone(pid: int, *, within_s: float = 20.0) -> bool:
    """Whether a process ends in time. A zombie that nobody reaps has not ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(within_s * 1000))
    finally:
        os.close(handle)


def is_reaped(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


async def until_gone(*pids: int) -> None:
    for pid in pids:
        assert await asyncio.to_thread(is_gone, pid), f"process {pid} goes on"


# --- the call ---------------------------------------------------------------------------------------------------------


async def test_arguments_and_results_travel_as_they_are_recorded() -> None:
    given, doubled, again, pid = await outcome_of(steps.call_double)
    assert pid != os.getpid()
    assert given == Decimal("1.50"), "the function changed a copy"
    assert doubled == Decimal("3.00")
    assert again == steps.Order(
        "tea", Decimal("9.00"), frozenset({"hot", "green"}), b"\x00\xff", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    )


async def test_each_call_has_a_process_of_its_own_that_leads_a_session() -> None:
    async with Runtime("memory://") as runtime:
        handle = await runtime.start(steps.call_whoami, id="r1")
        found = await handle.result()
    assert found["leads"] == [True, True]
    assert found["argv"] == sys.argv
    assert (found["names"], found["more"]) == (["a", "b"], {"more": 1})


async def test_current_step_is_available() -> None:
    async with Runtime("memory://") as runtime:
        found = await (await runtime.start(steps.call_whoami, id="r1")).result()
    assert found["place"] == ["r1", "0/main#1", "who-am-i", 1, 1]
    assert len(found["key"]) == 40


async def test_large_values_travel() -> None:
    data = os.urandom(3_000_000)
    assert await outcome_of(steps.call, "echo", [data]) == data[::-1]


async def test_a_step_is_found_by_the_variable_that_holds_it() -> None:
    assert await outcome_of(steps.call, "hidden", [[1, "two"]]) == [1, "two"]


async def test_what_is_printed_goes_to_standard_error_and_standard_input_is_empty(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert await outcome_of(steps.call, "talks", []) == ""
    output, errors = capfd.readouterr()
    assert output == ""
    assert set(errors.splitlines()) >= {
        "said to standard output",
        "said to standard error",
        "written to file 1",
        "said by a grandchild",
    }


async def test_a_secret_is_revealed_by_the_parent_and_redacted() -> None:
    store = MemoryStore()
    environ = {"PERDURE_TEST_TOKEN": CANARY}
    async with Runtime(store, environ=environ) as runtime:
        handle = await runtime.start(steps.call, "use_secret", [Secret("env:PERDURE_TEST_TOKEN")])
        found = await handle.result()
        assert found == {"length": str(len(CANARY)), "value": "the value is [secret env:PERDURE_TEST_TOKEN]"}
        assert CANARY.encode() not in b"".join(event.payload or b"" for event in await store.read(handle.id))
        own = await runtime.start(steps.call, "use_own_secret", ["PERDURE_TEST_TOKEN"])
        assert await own.result() == "[secret env:PERDURE_TEST_TOKEN]"
        missing = await runtime.start(steps.call, "use_own_secret", ["PERDURE_TEST_NOTHING"])
        with pytest.raises(RunFailed, match="PERDURE_TEST_NOTHING is not set"):
            await missing.result()


async def test_no_more_processes_at_once_than_the_limit(tmp_path: Path) -> None:
    counts = await outcome_of(steps.call_all, str(tmp_path), limits=Limits(step_threads=2))
    assert len(counts) == 6
    assert max(counts) == 2


# --- failures ---------------------------------------------------------------------------------------------------------


async def failure_of(name: str, *arguments: Any) -> list[Any]:
    """What the workflow's code saw, live and after a replay."""
    found: list[Any] = await outcome_of(steps.call_catching, name, list(arguments))
    return found


async def test_an_exception_keeps_type_text_code_and_details() -> None:
    assert await failure_of("fails", "refused") == [
        "StepFailed",
        "refused number 7",
        {"error_code": "refused", "error_type": "RefusedError", "details": {"number": 7}},
    ]


@pytest.mark.parametrize(
    ("how", "type_name", "text"),
    [
        ("key", "KeyError", "'missing'"),
        ("unknown", "HereOnlyError", "nobody else knows this class"),
        ("exit", "SystemExit", "not you"),
    ],
)
async def test_any_exception_is_recorded_under_its_own_name(how: str, type_name: str, text: str) -> None:
    kind, message, members = await failure_of("fails", how)
    assert (kind, message, members["error_type"]) == ("StepFailed", text, type_name)


async def test_a_declared_exception_reaches_the_workflow_as_itself() -> None:
    kind, message, _ = await failure_of("fails", "file")
    assert kind == "FileNotFoundError"
    assert message.startswith("[Errno 2] No such file")


async def test_the_arguments_of_a_declared_exception_come_back_as_they_were() -> None:
    assert await outcome_of(steps.call_fails_with, {"raw": b"\x00", "cost": Decimal("1.50")}) is True


async def test_retry_on_and_retry_after_are_understood(tmp_path: Path) -> None:
    kind, message, members = await failure_of("comes_back", str(tmp_path / "tries"))
    assert (kind, members["error_type"]) == ("StepFailed", "LookupError")
    assert "not worth another attempt" in message
    assert (tmp_path / "tries").read_text() == "xxxx", "one retry, and two waits that use up no attempt"


async def test_not_done_is_understood(tmp_path: Path) -> None:
    kind, _, members = await failure_of("refuses_first", str(tmp_path / "calls"))
    assert (kind, members["error_type"]) == ("StepFailed", "KeyError"), "an answer, not a doubt"


async def test_a_result_that_cannot_be_recorded_is_done_and_lost(tmp_path: Path) -> None:
    kind, message, _ = await failure_of("gives_an_object", str(tmp_path / "calls"))
    assert kind == StepResultError.__name__
    assert "object" in message
    assert (tmp_path / "calls").read_text() == "x", "never done again"


async def test_a_process_that_dies_is_a_failure_with_a_code_of_its_own() -> None:
    kind, message, members = await failure_of("dies", int(signal.SIGSEGV))
    assert (kind, members["error_code"]) == ("StepFailed", "process_died")
    assert "SIGSEGV" in message
    _, message, members = await failure_of("leaves", 5)
    assert members["error_code"] == "process_died"
    assert "exit code 5" in message


async def test_an_interrupt_in_the_child_does_not_reach_the_parent() -> None:
    _, _, members = await failure_of("interrupted")
    assert members["error_type"] == "KeyboardInterrupt"


# --- the end of a process ---------------------------------------------------------------------------------------------


async def test_a_timeout_kills_the_process_and_its_children(told: Path) -> None:
    clock = VirtualClock(patience="10ms")
    async with Runtime("memory://", clock=clock) as runtime:
        handle = await runtime.start(steps.call_catching, "hangs", [str(told)])
        child, grandchild = await until_told(told)
        await clock.advance("61s")
        kind, message, _ = await handle.result()
        assert (kind, message) == ("StepTimeout", "no answer within 60 s")
        await until_gone(child, grandchild)
        assert is_reaped(child)


async def test_a_cancel_kills_the_process_and_its_children(told: Path) -> None:
    async with Runtime("memory://") as runtime:
        handle = await runtime.start(steps.call, "hangs", [str(told)])
        child, grandchild = await until_told(told)
        await handle.cancel()
        await until_gone(child, grandchild)
        assert is_reaped(child)


async def test_an_answer_ends_what_the_step_left_behind(told: Path) -> None:
    ids, answer = await asyncio.gather(until_told(told), outcome_of(steps.call, "leaves_things_behind", [str(told)]))
    assert answer == "answered"
    child, grandchild = ids
    await until_gone(child, grandchild)
    assert is_reaped(child)


@pytest.fixture
def script() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start_script(started: list[subprocess.Popen[bytes]], path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(path), *arguments], env=environ, stdout=subprocess.PIPE)
    started.append(process)
    return process


async def test_the_process_ends_when_its_parent_is_killed(told: Path, script: list[Any]) -> None:
    parent = start_script(script, Path(steps.__file__), "hangs", str(told))
    child, grandchild = await until_told(told)
    parent.kill()
    await until_gone(child, grandchild)


# --- where a function is found ----------------------------------------------------------------------------------------


async def test_a_step_of_the_main_script_is_found_in_its_file(tmp_path: Path, script: list[Any]) -> None:
    path = tmp_path / "outside.py"
    shutil.copy(steps.__file__, path)
    parent = start_script(script, path, "hidden", "found")
    output, _ = await asyncio.to_thread(parent.communicate, timeout=50)
    assert output == b"found\n"


async def test_a_step_of_a_file_that_was_loaded_by_its_path_is_found_there(tmp_path: Path) -> None:
    path = tmp_path / "my workflows.py"
    (tmp_path / "beside.py").write_text("FACTOR = 3\n")
    path.write_text(
        "from perdure import Run, step, workflow\n"
        "from beside import FACTOR\n"
        "class OwnError(Exception): pass\n"
        "@step(kind='pure', isolation='process', raises=OwnError)\n"
        "def triple(number: int) -> int:\n"
        "    if number < 0:\n"
        "        raise OwnError('negative')\n"
        "    return number * FACTOR\n"
        "@workflow\n"
        "async def tripled(run: Run, number: int) -> int:\n"
        "    try:\n"
        "        return await run.step(triple, number)\n"
        "    except OwnError:\n"
        "        return -1\n"
    )
    tripled = load_file(path).own["tripled"]
    try:
        assert await outcome_of(tripled, 14) == 42
        assert await outcome_of(tripled, -2) == -1
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["beside"]


async def test_a_step_that_no_other_process_finds_fails_with_the_reason() -> None:
    kind, message, members = await outcome_of(steps.call_lost)
    assert (kind, members["error_code"]) == ("StepFailed", DefinitionError.code)
    assert "cannot be found again" in message


def test_an_async_function_is_refused_when_it_is_declared() -> None:
    with pytest.raises(DefinitionError, match="async"):
        steps.step(kind="pure", isolation="process")(until_told)


def test_a_function_inside_a_function_is_refused_when_it_is_declared() -> None:
    with pytest.raises(DefinitionError, match="module level"):

        @steps.step(kind="pure", isolation="process")
        def inside() -> None: ...


async def test_what_it_tells_while_it_runs_reaches_who_watches_the_run() -> None:
    async with Runtime("memory://") as runtime:
        with runtime.live.watch("r") as watch:
            assert await (await runtime.start(steps.murmuring, id="r")).result() == "done"
            assert "".join(piece.text for piece in watch.take()) == "from murmuring"
