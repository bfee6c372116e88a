"""Steps in processes of their own: one fresh Python for each call, which can be killed with all that it began.

The child finds the function again by its module and name (or by the file it was loaded from) and gets its arguments as
the JSON that is recorded; its result and its exception come back as JSON too. `process_child` is its inside.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import orjson

from perdure.core.errors import DefinitionError, PerdureError, ValueRefusedError
from perdure.core.secrets import Secret
from perdure.core.values import codec_for
from perdure.engine.calling import RefusedResult
from perdure.engine.current import StepInfo
from perdure.engine.failures import details_of
from perdure.engine.process_child import LENGTH, frame
from perdure.workflow.loading import FILE_ATTRIBUTE

if TYPE_CHECKING:
    from perdure.workflow.steps import Step

# The parent's search path goes first: the child must find this package, and the step's, where the parent found them.
_BOOT: Final = (
    "import sys; sys.path[:] = sys.argv[1].split(chr(10)); from perdure.engine.process_child import main; main()"
)
_INFO: Final = ("run_id", "scope", "key", "attempt", "epoch", "idempotency_key", "workflow")


class ProcessError(Exception):
    """An exception of a step that ran in a process, of a class that this process does not know."""


class ProcessDiedError(Exception):
    """The process of a step ended without an answer."""

    error_code = "process_died"


async def call_in_process(step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], info: StepInfo) -> Any:
    """Call a synchronous step's function in a fresh Python process; cancel it to kill that.

    The process leads a group of its own. The whole group is killed on cancellation, and after the answer: what the
    function began ends too, unless it left the group, and exit handlers are not run. The group also ends by itself when
    this process goes away. Its standard output and error go to this process's standard error.

    Args:
        step: its function must be found again at the top level of its module.
        args, kwargs: for the function; they travel as they are recorded.
        info: what `current_step()` gives there.

    Returns:
        What the function returned, decoded from its recorded form; a `RefusedResult` if it cannot be recorded.

    Raises:
        ProcessDiedError: the process ended without an answer, by a signal for example.
        Exception: of the class that the function raised, if this process knows it, with its text, arguments, code and
            details; else a `ProcessError` that is recorded under the same type and text.
    """
    message = await _ask(_request(step, args, kwargs, info), info)
    if message["what"] == "returned":
        return step.output.load(message["result"].encode())
    if message["what"] == "refused":
        return RefusedResult(_refusal(message))
    raise _raised(message)


def _request(step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], info: StepInfo) -> bytes:
    module, file = _home(step)
    return frame(
        {
            "module": module,
            "file": file,
            "qualname": step.__qualname__,
            "name": step.name,
            "input": step.dump_input(step.bind(args, kwargs)).decode(),
            "info": {name: getattr(info, name) for name in _INFO},
            "argv": sys.argv,
        }
    )


def _home(step: Step[..., Any]) -> tuple[str, str | None]:
    """Name and, where it was loaded by its path, file of the module that holds a step's function."""
    name = step.__module__
    module = sys.modules.get(name)
    file: str | None = getattr(module, FILE_ATTRIBUTE, None)
    if name != "__main__" or file is not None:
        return name, file
    spec = getattr(module, "__spec__", None)
    if spec is not None:
        return spec.name, None  # python -m name
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        raise DefinitionError(
            f"step {step.name!r} is defined where no other process finds it", hint="define it in a file", step=step.name
        )
    return name, os.path.abspath(file)


# --- the process ------------------------------------------------------------------------------------------------------


async def _ask(request: bytes, info: StepInfo) -> dict[str, Any]:
    """Start a process, hand in the request, serve it, and give its answer; the process is gone afterwards."""
    process = await _started()
    message: dict[str, Any] | None = None
    try:
        message = await _served(process, request, info)
    except (asyncio.IncompleteReadError, ConnectionError):
        message = None  # how it ended is known when it is gone
    finally:
        _kill(process)
        # Reaped whatever happens to this task: asyncio waits for the process by itself.
        code = await asyncio.shield(asyncio.ensure_future(process.wait()))
    if message is None:
        raise ProcessDiedError(f"the step's process ended {_how(code)}, without an answer")
    return message


async def _started() -> Process:
    """The process; it is not left behind when the start is cancelled in its middle."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _BOOT,
            _search_path(),
            stdin=PIPE,
            stdout=PIPE,
            stderr=_standard_error(),
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_kill_started)
        raise


def _search_path() -> str:
    return "\n".join(os.path.abspath(entry) if entry in ("", ".") else entry for entry in sys.path)


def _kill_started(starting: asyncio.Future[Process]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        _kill(starting.result())


def _standard_error() -> int | None:
    try:
        os.fstat(2)
    except OSError:
        return asyncio.subprocess.DEVNULL
    return None  # inherited


def _kill(process: Process) -> None:
    """Kill the group that a process leads, or has led until just now: what it began may be left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _served(process: Process, request: bytes, info: StepInfo) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(request)
    await process.stdin.drain()
    while True:
        size = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))[0]
        message: dict[str, Any] = orjson.loads(await process.stdout.readexactly(size))
        if message["what"] == "tell":
            info.tell(message["text"])
            continue
        if message["what"] != "reveal":
            return message
        process.stdin.write(_revealed(message["secret"], info))
        await process.stdin.drain()


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _revealed(reference: str, info: StepInfo) -> bytes:
    try:
        return frame({"value": info.reveal(Secret(reference))})
    except PerdureError as error:
        return frame({"error": error.message})


# --- what came back ---------------------------------------------------------------------------------------------------


def _refusal(message: dict[str, Any]) -> PerdureError:
    """The error by which a result was refused there."""
    error = message["error"]
    cls = next((cls for cls in _subclasses(ValueRefusedError) if cls.code == message["code"]), ValueRefusedError)
    return cls(error["message"], hint=error.get("hint"), **message["ids"])


def _subclasses(cls: type[PerdureError]) -> list[type[PerdureError]]:
    return [cls, *(found for direct in cls.__subclasses__() for found in _subclasses(direct))]


def _raised(message: dict[str, Any]) -> Exception:
    """The exception that was raised there, as far as this process knows its class."""
    described = message["error"]
    text: str = described["message"]
    base = _known_class(message.get("classes", ()))
    args = codec_for(Any).load_json(message.get("args"))
    members: dict[str, Any] = {
        "__module__": base.__module__,
        "__str__": lambda _: text,
        "message": text,
        "hint": described.get("hint", ""),
        "error_code": described["code"],
        "error_type": described["type"],
        "details": details_of(described),
    }
    error = _made(base, members, tuple(args) if isinstance(args, list) else (text,))
    if "delay_s" in message:
        error.delay_s = message["delay_s"]  # type: ignore[attr-defined]
    if "response" in message:
        error.response = SimpleNamespace(**message["response"])  # type: ignore[attr-defined]
    return error


def _made(base: type[Exception], members: dict[str, Any], args: tuple[Any, ...]) -> Exception:
    """An exception without its class's own `__init__`, whose parameters nobody knows here."""
    cls = type(base.__name__, (base,), members)
    try:
        error: Exception = cls.__new__(cls, *args)
    except Exception:  # a `__new__` of its own
        cls = type(ProcessError.__name__, (ProcessError,), members)
        error = cls.__new__(cls, *args)
    error.args = args
    return error


def _known_class(classes: Any) -> type[Exception]:
    """The first of an exception's classes that is loaded here too; a bare `Exception` says nothing."""
    for module, qualname in classes:
        found: Any = sys.modules.get(module)
        for part in qualname.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type) and issubclass(found, Exception) and found is not Exception:
            return found
    return ProcessError
