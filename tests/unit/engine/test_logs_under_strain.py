"""What logs must never do: change what a run comes to, show a secret, forge a record, or grow without end."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from perdure import Run, Runtime, Secret, step, workflow
from perdure.core.secrets import Redactor
from perdure.engine import logs
from perdure.engine.logs import JsonFormatter, TextFormatter
from perdure.store.memory import MemoryStore
from tests.unit.engine.staging import die, opened, reaches, until
from tests.unit.engine.test_logs import CANARY, elsewhere, fetch, lines, record, written

__all__ = ["written"]  # the fixture


class Broken(logging.Handler):
    """A handler that raises, as one does whose disk is full and that does not mind `raiseExceptions`."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("no space left")


@pytest.fixture
def broken() -> Iterator[None]:
    """The logs of this process have a handler that raises."""
    named = logging.getLogger("perdure")
    handler, level = Broken(), named.level
    named.addHandler(handler)
    named.setLevel("DEBUG")
    yield
    named.removeHandler(handler)
    named.setLevel(level)


@step(kind="once", in_doubt="ask")
async def lose() -> str:
    raise ConnectionError("no answer")


@pytest.mark.usefixtures("broken")
async def test_a_handler_that_raises_changes_nothing_of_what_runs_come_to(capfd: pytest.CaptureFixture[str]) -> None:
    @workflow
    async def talking(run: Run) -> str:
        run.log.info("begun")
        return await run.step(fetch, "u")

    @workflow
    async def doubtful(run: Run) -> str:
        return await run.step(lose)

    @workflow
    async def failing(run: Run) -> None:
        raise ValueError("no")

    async with Runtime("memory://") as runtime:
        assert await (await runtime.start(talking)).result() == "page"
        doubt = await runtime.start(doubtful)
        async for event in doubt.events():
            if event.kind == "wait.opened":
                break
        failed = await runtime.start(failing)
        async for event in failed.events():
            last = event
        assert last.kind == "run.failed"
        assert last.data["error"]["type"] == "ValueError"
        await runtime.resolve(doubt.id, "done", step="lose", value="found")
        assert await doubt.result() == "found"
    told = capfd.readouterr().err
    assert "a log record was lost: OSError" in told
    assert "broke" not in told


async def test_a_record_whose_extra_is_refused_is_lost_and_the_run_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    @workflow
    async def clumsy(run: Run) -> str:
        run.log.warning("the name is %s", CANARY, extra={"name": CANARY})
        return "done"

    async with Runtime("memory://") as runtime:
        assert await (await runtime.start(clumsy)).result() == "done"
    told = capfd.readouterr().err
    assert "a log record was lost: KeyError" in told
    assert CANARY not in told


async def test_a_record_says_which_line_logged_it(caplog: pytest.LogCaptureFixture) -> None:
    @workflow
    async def talking(run: Run) -> None:
        run.log.warning("here")

    async with Runtime("memory://") as runtime:
        await (await runtime.start(talking)).result()
    (told,) = [one for one in caplog.records if one.name.startswith("perdure.run")]
    assert (told.filename, told.funcName) == ("test_logs_under_strain.py", "talking")


class Unshowable:
    """What has no text."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def test_a_record_is_written_whatever_stands_in_it() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    odd = {
        "thing": Unshowable(),
        "cycle": cycle,
        "nan": float("nan"),
        "half": "\ud800",
        "keys": {(1, 2): {"\ud800": 1}},
    }
    told = json.loads(JsonFormatter().format(record(**odd, fine=[1, "x"])), parse_constant=pytest.fail)
    assert told["thing"] == "<Unshowable that cannot be shown: RuntimeError>"
    assert (told["cycle"], told["nan"], told["half"], told["fine"]) == ("[[...]]", None, "\\ud800", [1, "x"])
    misfit = record("%d of them")
    misfit.args = ("three",)
    assert json.loads(JsonFormatter().format(misfit))["message"] == "%d of them (its arguments do not fit: TypeError)"
    assert TextFormatter().format(misfit).endswith("%d of them (its arguments do not fit: TypeError)")


@pytest.mark.parametrize("value", ["12345678", "true", "null"])
def test_a_record_stays_json_though_a_number_in_it_is_a_secret(value: str) -> None:
    redactor = Redactor()
    logs.know(redactor)
    redactor.declare(Secret("env:PIN"), value)
    told = json.loads(JsonFormatter().format(record(f"pin {value}", pin=json.loads(value))))
    assert (told["message"], told["pin"]) == ("pin [secret env:PIN]", "[secret env:PIN]")


@pytest.mark.parametrize("end", ["\n", "\r", "\x1b[2J", "\x85", "\u2028"])
def test_a_message_forges_no_second_record(end: str) -> None:
    line = TextFormatter().format(record(f"came{end}2023-11-14T22:13:21.000Z INFO a.b all is well", run_id=f"r{end}1"))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    try:
        raise ValueError(f"no{end}2023-11-14T22:13:21.000Z INFO a.b all is well")
    except ValueError:
        made = record("it broke")
        made.exc_info = sys.exc_info()
    head, *stack = TextFormatter().format(made).splitlines()
    assert head.endswith("it broke")
    assert len(stack) > 3
    assert all(one.startswith("  ") for one in stack)


def test_a_secret_of_several_lines_is_redacted_in_text_too() -> None:
    redactor = Redactor()
    logs.know(redactor)
    redactor.declare(Secret("env:KEY"), "first line\nsecond line")
    assert TextFormatter().format(record("it is first line\nsecond line")).endswith("it is [secret env:KEY]")


def test_a_stream_that_is_closed_tells_nothing_of_the_record(
    written: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    written.close()
    elsewhere.warning("the key is %s", CANARY)
    told = capfd.readouterr().err
    assert "a log record was lost: ValueError" in told
    assert CANARY not in told


def test_redactors_may_come_while_records_are_written() -> None:
    going = threading.Event()
    problems: list[BaseException] = []

    def write() -> None:
        formatter = JsonFormatter()
        while not going.is_set():
            try:
                formatter.format(record())
            except RuntimeError as error:
                problems.append(error)
                return

    kept = [Redactor() for _ in range(4000)]
    writer = threading.Thread(target=write)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        writer.start()
        for one in kept:
            logs.know(one)
    finally:
        sys.setswitchinterval(before)
        going.set()
        writer.join()
    assert not problems


def test_loggers_are_not_made_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_LOGGERS", len(logs._named) + 2)
    made = [logs.RunLogger(f"submitted-{number}", dict).logger.name for number in range(4)]
    assert made == ["perdure.run.submitted-0", "perdure.run.submitted-1", "perdure.run", "perdure.run"]
    assert logs.RunLogger("submitted-1", dict).logger.name == "perdure.run.submitted-1"


async def test_what_a_run_has_left_behind_is_heard_though_it_was_parked_while_it_was_replayed(
    written: io.StringIO,
) -> None:
    """A client's background task keeps the context of the run that happened to begin it."""
    parked, heard = asyncio.Event(), asyncio.Event()
    left: list[asyncio.Task[None]] = []

    async def background() -> None:
        elsewhere.info("replayed")
        await parked.wait()
        elsewhere.info("at work")
        heard.set()

    @step(kind="idempotent")
    async def send() -> None:
        pass

    async def old(run: Run) -> None:
        await run.step(send)
        await run.wait_for("go")

    async def new(run: Run) -> None:
        left.append(asyncio.create_task(background()))
        await asyncio.sleep(0)
        await run.wait_for("go")

    store = MemoryStore()
    runtime = await opened(store, workflow(name="main")(old))
    handle = await runtime.start("main")
    await reaches(handle, "waiting")
    await die(runtime)
    async with Runtime(store, workflows=[workflow(name="main")(new)]) as again:
        await again.signal("go", run_id=handle.id)
        await reaches(again.run(handle.id), "paused")
        await until(lambda: not again.worker.executions)
        parked.set()
        await heard.wait()
        await asyncio.gather(*left)
    assert [one["message"] for one in lines(written, "some.library")] == ["at work"]
