"""The inside of a process that runs one call of a step; see `processes` for the other side.

It talks in frames over what were its standard input and output: eight bytes of length, then JSON. Its own standard
input is empty, and what it prints goes to standard error. When the other side goes away it ends with all its
children, whatever the step is doing.
"""

from __future__ import annotations

import importlib
import inspect
import os
import queue
import select
import signal
import struct
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO, Final, NoReturn

import orjson

from perdure.core.errors import DefinitionError, PerdureError, RetryAfter, SecretError
from perdure.core.secrets import Secret
from perdure.engine.current import StepInfo, step_info
from perdure.engine.failures import arguments_of, describe
from perdure.workflow.steps import Step

LENGTH: Final = struct.Struct(">Q")
PARENT_CHECK_MS: Final = 1000
"""How often the parent is looked at, in case another process keeps the pipe from it open."""


def frame(message: dict[str, Any]) -> bytes:
    """A message as it travels."""
    data = orjson.dumps(message)
    return LENGTH.pack(len(data)) + data


def main() -> NoReturn:
    """Take one request, call the step's function, tell what became of it, and end."""
    channel = _Channel()
    request = channel.receive()
    if request is None:
        _end_all()
    threading.Thread(target=channel.watch, name="perdure-parent", daemon=True).start()
    channel.answer(_answer(request, channel))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # nobody listens any more
    _end_all()  # nothing that the step left behind outlives it


def _end_all() -> NoReturn:
    """End this process and all that it began: it leads a process group of its own."""
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


class _Channel:
    """The two pipes to the other side, out of reach of the step's own code."""

    def __init__(self) -> None:
        self._parent_pid = os.getppid()
        self._in: BinaryIO = os.fdopen(os.dup(0), "rb", buffering=0)
        self._out: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(line_buffering=True)
        self._lock = threading.Lock()
        self._replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def send(self, message: dict[str, Any]) -> None:
        data = memoryview(frame(message))
        while data:
            data = data[self._out.write(data) :]

    def receive(self) -> dict[str, Any] | None:
        """The next message; `None` when the other side has gone."""
        head = self._read(LENGTH.size)
        if head is None:
            return None
        data = self._read(LENGTH.unpack(head)[0])
        return None if data is None else orjson.loads(data)

    def _read(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            part = self._in.read(min(size - len(parts), 1 << 20))
            if not part:
                return None
            parts += part
        return bytes(parts)

    def watch(self) -> None:
        """In a thread: take replies, and end everything when the other side goes away."""
        poll = select.poll()
        poll.register(self._in, select.POLLIN)
        while True:
            ready = poll.poll(PARENT_CHECK_MS)
            message = self.receive() if ready else {}
            if message is None or os.getppid() != self._parent_pid:
                _end_all()
            if message:
                self._replies.put(message)

    def reveal(self, secret: Secret) -> str:
        """Ask the other side for the value of a secret, so that it knows what it must keep out of the journal."""
        with self._lock:
            self.send({"what": "reveal", "secret": secret.reference})
            reply = self._replies.get()
        if "error" in reply:
            raise SecretError(reply["error"], secret=secret.reference)
        value: str = reply["value"]
        return value

    def tell(self, _attempt: int, text: str) -> None:
        """Tell the other side what the function tells."""
        with self._lock:
            self.send({"what": "tell", "text": text.encode("utf-8", "replace").decode()})

    def answer(self, message: dict[str, Any]) -> None:
        """Send what became of the call; threads that it left behind may still tell something before it."""
        with self._lock:
            self.send(message)


# --- the call ---------------------------------------------------------------------------------------------------------


def _answer(request: dict[str, Any], channel: _Channel) -> dict[str, Any]:
    """What became of the call, as a message."""
    sys.argv = request["argv"]
    try:
        module = find_module(request["module"], request["file"])
        step = find_step(module, request["qualname"], request["name"])
        args, kwargs = step.load_input(orjson.loads(request["input"]))
    except (Exception, SystemExit) as error:
        return {"what": "lost", "error": describe(error)}
    token = step_info.set(StepInfo(**request["info"], _reveal=channel.reveal, _tell=channel.tell))
    try:
        value = step.fn(*args, **kwargs)
    except BaseException as error:
        return {"what": "raised", **_told(error, module, request["module"])}
    finally:
        step_info.reset(token)
    if inspect.iscoroutine(value):
        value.close()
        value = DefinitionError(f"step {step.name!r} runs in a process and must not be async")
        return {"what": "lost", "error": describe(value)}
    try:
        return {"what": "returned", "result": step.output.dump(value, "$").decode()}
    except PerdureError as error:
        return {"what": "refused", "code": error.code, "error": describe(error), "ids": _plain(error.ids)}


def find_module(name: str, file: str | None) -> ModuleType:
    """The module that holds the function: by its file where it was loaded from one, else by its name."""
    if file is None:
        return importlib.import_module(name)
    from perdure.workflow.loading import load_module

    return load_module(file)


def find_step(module: ModuleType, qualname: str, name: str) -> Step[..., Any]:
    """The step in its module: under the function's own name, or whatever variable holds it.

    Raises:
        DefinitionError: it is not there.
    """
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    candidates = [found, *vars(module).values()]
    for one in candidates:
        if isinstance(one, Step) and one.name == name and one.__qualname__ == qualname:
            return one
    raise DefinitionError(
        f"step {name!r} cannot be found again as {qualname} in {module.__name__}",
        hint="a step with isolation='process' is held by a variable of its module",
    )


def _told(error: BaseException, module: ModuleType, name: str) -> dict[str, Any]:
    """An exception as a message: described, with its classes by name so that the other side knows what it is."""
    classes = [
        [name if cls.__module__ == module.__name__ else cls.__module__, cls.__qualname__]
        for cls in type(error).__mro__
        if issubclass(cls, Exception)
    ]
    told: dict[str, Any] = {"error": describe(error), "classes": classes, "args": arguments_of(error)}
    if isinstance(error, RetryAfter):
        told["delay_s"] = error.delay_s
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(status, int):
        header = _header(getattr(response, "headers", None))
        told["response"] = {"status_code": status, "headers": {} if header is None else {"retry-after": header}}
    return told


def _header(headers: Any) -> str | None:
    get: Callable[[str], Any] | None = getattr(headers, "get", None)
    value = get("retry-after") if get is not None else None
    return None if value is None else str(value)


def _plain(ids: dict[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, str | int) else str(value) for name, value in ids.items()}
