"""The pytest plugin: fixtures for workflows, and a way to run async tests that use them.

It is loaded by every pytest session where Perdure is installed, so it imports nothing but pytest until a fixture is
used. An `async def` test that uses one of its fixtures, or is marked `perdure`, needs no other plugin; where another
one runs async tests, that one does.

Fixtures:

* `perdure_clock`: a `VirtualClock`.
* `perdure_store`: an empty `MemoryStore`.
* `perdure_sqlite`: the URL of a SQLite file of the test's own.
* `perdure_runtime`: a `Runtime` on that memory store with that clock, open while the test runs.
* `perdure_crash_matrix`: `crash_matrix`, which keeps what is left of failed points under the test's `tmp_path`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from perdure.engine.runtime import Runtime
    from perdure.store.port import Store
    from perdure.testing.clock import VirtualClock

MARKER = "perdure"
PREFIX = "perdure_"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", f"{MARKER}: run this async test in an event loop of its own")


# --- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def perdure_clock() -> VirtualClock:
    """A virtual clock: `await perdure_clock.advance("30d")`."""
    from perdure.testing.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def perdure_store() -> Store:
    """An empty store in memory."""
    from perdure.store.memory import MemoryStore

    return MemoryStore()


@pytest.fixture
def perdure_sqlite(tmp_path: Path) -> str:
    """The URL of a SQLite store of this test's own; the file does not exist yet."""
    return f"sqlite:///{tmp_path / 'perdure.db'}"


@pytest.fixture
def perdure_runtime(perdure_store: Store, perdure_clock: VirtualClock) -> Runtime:
    """A runtime in memory, whose time is `perdure_clock`; it is open while an async test runs."""
    from perdure.engine.runtime import Runtime
    from perdure.engine.services import Limits

    return Runtime(perdure_store, clock=perdure_clock, limits=Limits(drain_grace_s=0.2))


@pytest.fixture
def perdure_crash_matrix(tmp_path: Path) -> Callable[..., Any]:
    """`perdure.testing.crash_matrix`, with its remains under `tmp_path`."""
    from perdure.testing.crash.matrix import crash_matrix

    count = iter(range(1, 1000))

    def matrix(*args: Any, **options: Any) -> Any:
        return crash_matrix(*args, **({"directory": tmp_path / f"matrix-{next(count)}"} | options))

    return matrix


# --- async tests ------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Let an async test begin when its runtime is open, and close it in the same event loop."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        funcargs: dict[str, Any] = item.funcargs
        if "perdure_runtime" in funcargs:
            item.obj = _with_open(item.obj, funcargs["perdure_runtime"])
    return (yield)


def _with_open(test: Callable[..., Coroutine[Any, Any, None]], runtime: Runtime) -> Callable[..., Any]:
    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with runtime:
            await test(*args, **kwargs)

    return run


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test of ours that nobody else runs."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or not _is_ours(pyfuncitem):
        return None
    import asyncio

    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def _is_ours(item: pytest.Function) -> bool:
    marked = item.get_closest_marker(MARKER) is not None
    return marked or any(name.startswith(PREFIX) for name in item.fixturenames)
