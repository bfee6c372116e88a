"""Logs: the standard library's, with the run and the step in every record, and silent while code is replayed.

Three parts that can be used without each other. `RunLogger` is what `run.log` and `current_step().log` give.
`RunContextFilter` tells any handler which run and step a record comes from, whoever's logger it is. `configure` sets up
the process, with one line of text or one JSON object a record; declared secrets, and what has the shape of one, are
redacted in both.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from threading import RLock
from typing import Any, Final, Literal, TextIO
from weakref import WeakSet

import orjson

from perdure.core.errors import InputError
from perdure.core.secrets import Redactor, redact_shapes
from perdure.engine.current import step_info
from perdure.engine.scopes import current_scope

Form = Literal["text", "json"]
RUN_LOGGER: Final = "perdure.run"
PLACE: Final = ("run_id", "workflow", "node", "scope", "step", "attempt")
"""What a record says of where it comes from."""

MOST_LOGGERS: Final = 10_000
"""How many workflows have a logger of their own: `logging` keeps each of them as long as the process lives."""

MOST_BITS: Final = 4096
"""Of an integer that is told as a number."""

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""What would end a line, or what a terminal would obey."""
_redactors: WeakSet[Redactor] = WeakSet()
_changing_redactors = RLock()  # whose holder may be asked for it again by what the garbage collector ends
_named: set[str] = set()


def know(redactor: Redactor) -> None:
    """What this redactor knows is kept out of the logs of the process."""
    with _changing_redactors:
        _redactors.add(redactor)


class HarmlessLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that never raises: what a run comes to does not depend on what listens to it."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a record; one that a handler, a filter or its own `extra` breaks is lost."""
        try:
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            super().log(level, msg, *args, **kwargs)
        except Exception:
            _tell_lost()

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave it as it is."""
        return msg, kwargs


logger = HarmlessLogger(logging.getLogger("perdure.engine"), {})
"""The engine's own: what it recovers, parks, doubts and loses, with `run_id` in `extra`."""
logger.logger.addHandler(logging.NullHandler())  # a library is silent until the program says otherwise


def _tell_lost() -> None:
    """Say on standard error that a record was lost, as `logging` does, but without its words: they may hold secrets."""
    kind, _, trace = sys.exc_info()
    if not logging.raiseExceptions or kind is None or sys.stderr is None:
        return
    stack = "".join(traceback.format_tb(trace))
    with suppress(OSError, ValueError):  # nobody reads it any more
        sys.stderr.write(f"a log record was lost: {kind.__qualname__}\n{stack}")


def _logger_of(workflow: str) -> logging.Logger:
    """`perdure.run.<workflow>`; `perdure.run` where there are too many: submitted pipelines bring their own names."""
    if workflow not in _named:
        if not workflow or len(_named) >= MOST_LOGGERS:
            return logging.getLogger(RUN_LOGGER)
        _named.add(workflow)
    return logging.getLogger(f"{RUN_LOGGER}.{workflow}")


class RunLogger(HarmlessLogger):
    """A logger that belongs to a run or a step.

    Args:
        workflow: the name of the run's workflow; the logger is `perdure.run.<workflow>`, for the first `MOST_LOGGERS`
            of them.
        place: gives what its records say of where they come from.
        replaying: whether the code that logs runs again over what is recorded; then nothing is logged.
    """

    def __init__(
        self, workflow: str, place: Callable[[], Mapping[str, object]], replaying: Callable[[], bool] | None = None
    ) -> None:
        super().__init__(_logger_of(workflow), {})
        self._place = place
        self._replaying = replaying

    def isEnabledFor(self, level: int) -> bool:
        """Whether a record of this level would be logged now."""
        return super().isEnabledFor(level) and not (self._replaying is not None and self._replaying())

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the place into the record, beside what the caller gives in `extra`."""
        kwargs["extra"] = {**self._place(), **(kwargs.get("extra") or {})}
        return msg, kwargs


class RunContextFilter(logging.Filter):
    """Adds run, workflow, node, scope, step and attempt to every record that comes from a workflow or a step.

    For handlers. Records from workflow code that is replayed are left out; what Perdure logs of itself is not.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        info = step_info.get()
        if info is not None:
            _add(record, info.place)
            return True
        scope = current_scope.get()
        if scope is None:
            return True
        execution = scope.execution
        place = {"run_id": execution.run_id, "workflow": execution.graph.name, "scope": scope.path}
        _add(record, {**place, "node": scope.node.rpartition("#")[0]})
        return record.name.partition(".")[0] == "perdure" or not (scope.replaying and execution.tasks)


def _add(record: logging.LogRecord, place: Mapping[str, object]) -> None:
    for name, value in place.items():
        if not hasattr(record, name):
            setattr(record, name, value)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, where the record comes from, whatever stands
    in `extra`, and `exception` with type, message and stack. What JSON cannot hold stands there as `repr` shows it."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        told: dict[str, Any] = {
            "time": _time_of(record) + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message_of(record),
        }
        given = vars(record)
        told |= {name: given[name] for name in PLACE if given.get(name) is not None}
        told |= {name: value for name, value in given.items() if name not in _STANDARD and name not in told}
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, trace = record.exc_info
            told["exception"] = {
                "type": kind.__qualname__,
                "message": _shown(error, str),
                "stack": "".join(traceback.format_exception(kind, error, trace)),
            }
        if record.stack_info:
            told["stack"] = record.stack_info
        data = _json({_clean(str(name)): value for name, value in told.items()})
        for redactor in _known_redactors():
            data = _without_secrets(data, redactor)
        return redact_shapes(data).decode()


class TextFormatter(logging.Formatter):
    """One line a record, with the run and the step in brackets, control characters escaped; a stack on lines of its
    own, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        given = vars(record)
        place = " ".join(str(given[name]) for name in ("run_id", "step") if given.get(name) is not None)
        where = f" [{place}]" if place else ""
        head = f"{_time_of(record)}Z {record.levelname} {record.name}{where} {_message_of(record)}"
        lines = [_one_line(_text_without_secrets(head))]
        if record.exc_info and record.exc_info[0] is not None:
            lines += _indented(self.formatException(record.exc_info))
        if record.stack_info:
            lines += _indented(self.formatStack(record.stack_info))
        return "\n".join(lines)


# --- what a record says -----------------------------------------------------------------------------------------------


def _message_of(record: logging.LogRecord) -> str:
    """Its message; where the arguments do not fit into it, it without them."""
    try:
        return record.getMessage()
    except Exception as error:
        return f"{_shown(record.msg, str)} (its arguments do not fit: {type(error).__name__})"


def _shown(value: object, how: Callable[[object], str] = repr) -> str:
    """Any value as text, also if it cannot say itself what it is."""
    try:
        return how(value)
    except Exception as error:
        return f"<{type(value).__qualname__} that cannot be shown: {type(error).__name__}>"


def _clean(text: str) -> str:
    """Text without halves of surrogate pairs: they are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _json(told: dict[str, Any]) -> bytes:
    """JSON, whatever is to be told: members that it cannot hold are told as text."""
    try:
        return _dumps(told)
    except orjson.JSONEncodeError:
        return _dumps({name: _member(value) for name, value in told.items()})


def _member(value: object) -> object:
    try:
        _dumps(value)
    except orjson.JSONEncodeError:
        if type(value) is int and value.bit_length() <= MOST_BITS:
            return orjson.Fragment(str(value))
        return _clean(value if isinstance(value, str) else _shown(value))
    return value


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, default=_shown, option=orjson.OPT_NON_STR_KEYS)


# --- what it must not say ---------------------------------------------------------------------------------------------


def _known_redactors() -> list[Redactor]:
    with _changing_redactors:
        return list(_redactors)


def _text_without_secrets(text: str) -> str:
    for redactor in _known_redactors():
        text = redactor.redact_text(text)
    return redact_shapes(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


def _without_secrets(data: bytes, redactor: Redactor) -> bytes:
    """A JSON object without declared values; it stays JSON, also where a number was one of them."""
    redacted = redactor.redact_bytes(data)
    if redacted is data or _is_json(redacted):
        return redacted
    return redactor.redact_bytes(orjson.dumps(_texts(orjson.loads(data))))


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def _texts(tree: Any) -> Any:
    """A JSON tree with every scalar as text."""
    if isinstance(tree, dict):
        return {name: _texts(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_texts(value) for value in tree]
    return tree if isinstance(tree, str) else orjson.dumps(tree).decode()


def _one_line(text: str) -> str:
    """Text with its control characters escaped: nobody writes a second record by a line end in a message."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _indented(stack: str) -> list[str]:
    return [f"  {_one_line(line)}" for line in _text_without_secrets(stack).split("\n")]


def _time_of(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}"


_FORMATTERS: Final[dict[str, type[logging.Formatter]]] = {"text": TextFormatter, "json": JsonFormatter}


class _Handler(logging.StreamHandler[TextIO]):
    """The handler that `configure` has set up."""

    def handleError(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.handleError`; what the record says is not shown."""
        _tell_lost()


def configure(*, form: Form = "text", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up the logs of this process; what an earlier call set up is replaced.

    Args:
        form: `text`, or `json` for one JSON object a line.
        level: `debug`, `info`, `warning`, `error` or `critical`: what is less is left out.
        stream: where they go; standard error if omitted.

    Raises:
        InputError: there is no such form or level.
    """
    if level.upper() not in _LEVELS:
        raise InputError(f"log level {level!r} is none of {', '.join(_LEVELS).lower()}")
    if form not in _FORMATTERS:
        raise InputError(f"log format {form!r} is none of {', '.join(_FORMATTERS)}")
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_FORMATTERS[form]())
    handler.addFilter(RunContextFilter())
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
