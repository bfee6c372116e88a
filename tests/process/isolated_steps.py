"""Steps that run in processes of their own, and workflows that call them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from perdure import RetryAfter, Run, Secret, current_step, step, workflow


@dataclass
class Order:
    name: str
    price: Decimal
    tags: frozenset[str]
    picture: bytes
    when: datetime


class RefusedError(Exception):
    """An error with a code, details, and an `__init__` that nobody can call with its `args`."""

    def __init__(self, *, number: int) -> None:
        super().__init__(f"refused number {number}")
        self.error_code = "refused"
        self.details = {"number": number}


class HttpError(Exception):
    """As HTTP libraries have it."""

    def __init__(self, status_code: int, wait_s: int) -> None:
        super().__init__(f"status {status_code}")
        self.response = SimpleNamespace(status_code=status_code, headers={"retry-after": str(wait_s)})


@step(kind="pure", isolation="process")
def double(order: Order, times: tuple[int, ...] = (2,)) -> tuple[Order, int]:
    assert type(order) is Order
    assert type(times) is tuple
    order.price *= times[0]
    return order, os.getpid()


@step(kind="read", isolation="process", name="who-am-i")
def whoami(*names: str, **more: int) -> dict[str, Any]:
    info = current_step()
    return {
        "key": info.idempotency_key,
        "place": [info.run_id, info.scope, info.key, info.attempt, info.epoch],
        "names": list(names),
        "more": more,
        "leads": [os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()],
        "argv": sys.argv,
    }


@step(kind="read", isolation="process", raises=FileNotFoundError)
def fails(how: str) -> None:
    if how == "refused":
        raise RefusedError(number=7)
    if how == "key":
        raise KeyError("missing")
    if how == "file":
        open("/nowhere/at/all").close()
    if how == "unknown":
        raise type("HereOnlyError", (ValueError,), {})("nobody else knows this class")
    if how == "exit":
        sys.exit("not you")
    raise AssertionError(how)


@step(kind="read", isolation="process", raises=ValueError)
def fails_with(value: Any) -> None:
    raise ValueError(value, 2**60)


@step(kind="read", isolation="process", retries=3, retry_on=(ConnectionError,))
def comes_back(path: str) -> int:
    tries = len(Path(path).read_text()) + 1 if os.path.exists(path) else 1
    Path(path).write_text("x" * tries)
    if tries == 1:
        raise ConnectionResetError("not yet")
    if tries == 2:
        raise RetryAfter(0.01)
    if tries == 3:
        raise HttpError(503, 0)
    if tries == 4:
        raise LookupError("this one is not worth another attempt")
    raise AssertionError(tries)


@step(kind="once", isolation="process", not_done=(LookupError,))
def refuses_first(path: str) -> int:
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) == 1:
        raise KeyError("nothing was done")
    return os.path.getsize(path)


@step(kind="idempotent", isolation="process")
def gives_an_object(path: str) -> Any:
    with open(path, "a") as file:
        file.write("x")
    return object()


@step(kind="idempotent", isolation="process")
def dies(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


@step(kind="idempotent", isolation="process")
def leaves(code: int) -> None:
    os._exit(code)


@step(kind="idempotent", isolation="process", timeout="60s")
def hangs(path: str) -> None:
    """Begins another process, tells who they are, and never ends."""
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(f"{os.getpid()} {grandchild.pid}")
    grandchild.wait()


@step(kind="idempotent", isolation="process")
def leaves_things_behind(path: str) -> str:
    """Answers, though a thread and a process that it began go on."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(f"{os.getpid()} {grandchild.pid}")
    return "answered"


@step(kind="pure", isolation="process")
def talks() -> str:
    print("said to standard output")
    print("said to standard error", file=sys.stderr)
    os.write(1, b"written to file 1\n")
    subprocess.run(["echo", "said by a grandchild"], check=True)
    return sys.stdin.read()


@step(kind="pure", isolation="process")
def echo(data: bytes) -> bytes:
    return data[::-1]


@step(kind="read", isolation="process")
def use_secret(secret: Secret) -> dict[str, str]:
    value = current_step().reveal(secret)
    return {"length": str(len(value)), "value": f"the value is {value}"}


@step(kind="read", isolation="process")
def use_own_secret(name: str) -> str:
    return current_step().reveal(Secret(f"env:{name}"))


@step(kind="pure", isolation="process")
def meet(folder: str, name: str) -> int:
    """Note who is here, stay a while, and say how many were here at most."""
    place = Path(folder)
    (place / name).touch()
    here = len(list(place.iterdir()))
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        here = max(here, len(list(place.iterdir())))
        time.sleep(0.01)
    (place / name).unlink()
    return here


@step(kind="pure", isolation="process")
def interrupted() -> None:
    signal.raise_signal(signal.SIGINT)


hidden = step(kind="pure", isolation="process", name="renamed")(lambda value: value)
"""A step that is found by what holds it, not by its function's name."""


def _same(value: Any) -> Any:
    return value


lost = step(kind="pure", isolation="process", name="lost")(_same)
_lost = [lost]
del lost
# A variable of another name would be found; a list is not looked into.


@workflow
async def call_lost(run: Run) -> list[Any]:
    return await _caught(run, _lost[0], [1])


@workflow
async def call_double(run: Run) -> tuple[Decimal, Decimal, Order, int]:
    when = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    order = Order("tea", Decimal("1.50"), frozenset({"hot", "green"}), b"\x00\xff", when)
    doubled, pid = await run.step(double, order)
    again, _ = await run.step(double, doubled, times=(3, 1))
    return order.price, doubled.price, again, pid


@workflow
async def call(run: Run, name: str, arguments: list[Any]) -> Any:
    return await run.step(globals()[name], *arguments)


@workflow
async def call_catching(run: Run, name: str, arguments: list[Any]) -> list[Any]:
    return await _caught(run, globals()[name], arguments)


async def _caught(run: Run, called: Any, arguments: list[Any]) -> list[Any]:
    try:
        await run.step(called, *arguments)
    except Exception as error:
        members = {part: getattr(error, part, None) for part in ("error_code", "error_type", "details")}
        return [type(error).__name__, str(error), members]
    raise AssertionError("it did not fail")


@workflow
async def call_fails_with(run: Run, value: Any) -> bool:
    try:
        await run.step(fails_with, value)
    except ValueError as error:
        return error.args == (value, 2**60)
    return False


@workflow
async def call_whoami(run: Run) -> dict[str, Any]:
    return await run.step(whoami, "a", "b", more=1)


@workflow
async def call_all(run: Run, folder: str) -> list[int]:
    return await run.map(lambda name: run.step(meet, folder, name), [f"p{i}" for i in range(6)])


if __name__ == "__main__":
    import asyncio

    from perdure import Runtime

    async def main(name: str, arguments: list[str]) -> None:
        async with Runtime("memory://", workflows=[call]) as runtime:
            print(await (await runtime.start(call, name, arguments)).result(), flush=True)

    asyncio.run(main(sys.argv[1], sys.argv[2:]))


@step(kind="read", isolation="process")
def murmur() -> str:
    current_step().tell("from ")
    current_step().tell(current_step().workflow)
    return "done"


@workflow
async def murmuring(run: Run) -> str:
    return await run.step(murmur)
