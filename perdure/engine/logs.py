"""Logs: the standard library's, with the run and the step in every record, and silent while code is replayed.

Three parts that can be used without each other. `RunLogger` is what `run.log` and `current_step().log` give.
`RunContextFilter` tells any handler which run and step a record comes from, whoever's logger it is. `configure` sets up
the process, with one line of text or one JSON object a record; declared secrets, and what has the shape of one, are
redacted in both.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
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

logger = logging.getLogger("perdure.engine")
"""The engine's own: what it recovers, parks, doubts and loses, with `run_id` in `extra`."""
logger.addHandler(logging.NullHandler())  # a library is silent until the program says otherwise

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_redactors: WeakSet[Redactor] = WeakSet()


def know(redactor: Redactor) -> None:
    """What this redactor knows is kept out of the logs of the process."""
    _redactors.add(redactor)


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that belongs to a run or a step.

    Args:
        workflow: the name of the run's workflow; the logger is `perdure.run.<workflow>`.
        place: gives what its records say of where they come from.
        replaying: whether the code that logs runs again over what is recorded; then nothing is logged.
    """

    def __init__(
        self, workflow: str, place: Callable[[], Mapping[str, object]], replaying: Callable[[], bool] | None = None
    ) -> None:
        super().__init__(logging.getLogger(f"{RUN_LOGGER}.{workflow}" if workflow else RUN_LOGGER), {})
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
        return record.name.partition(".")[0] == "perdure" or not scope.replaying


def _add(record: logging.LogRecord, place: Mapping[str, object]) -> None:
    for name, value in place.items():
        if not hasattr(record, name):
            setattr(record, name, value)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, where the record comes from, whatever stands
    in `extra`, and `exception` with type, message and stack."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        told: dict[str, Any] = {
            "time": _time_of(record) + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = vars(record)
        told |= {name: given[name] for name in PLACE if given.get(name) is not None}
        told |= {name: value for name, value in given.items() if name not in _STANDARD and name not in told}
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, trace = record.exc_info
            told["exception"] = {
                "type": kind.__qualname__,
                "message": str(error),
                "stack": "".join(traceback.format_exception(kind, error, trace)),
            }
        if record.stack_info:
            told["stack"] = record.stack_info
        try:
            data = orjson.dumps(told, default=repr, option=orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError:  # half of a surrogate pair, or a number that is too large for it
            data = json.dumps(told, default=repr).encode()
        for redactor in _redactors:
            data = redactor.redact_bytes(data)
        return redact_shapes(data).decode()


class TextFormatter(logging.Formatter):
    """One line a record, with the run and the step in brackets; a stack on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        given = vars(record)
        place = " ".join(str(given[name]) for name in ("run_id", "step") if given.get(name) is not None)
        where = f" [{place}]" if place else ""
        text = f"{_time_of(record)}Z {record.levelname} {record.name}{where} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + self.formatStack(record.stack_info)
        for redactor in _redactors:
            text = redactor.redact_text(text)
        return redact_shapes(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


def _time_of(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}"


_FORMATTERS: Final[dict[str, type[logging.Formatter]]] = {"text": TextFormatter, "json": JsonFormatter}


class _Handler(logging.StreamHandler[TextIO]):
    """The handler that `configure` has set up."""


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
