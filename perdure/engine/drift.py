"""Drift: the code no longer asks for what the journal records. The run is parked, and told how to go on."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson

from perdure.core import kinds
from perdure.core.canonical import canonical
from perdure.core.errors import PerdureError, RunAbandoned
from perdure.core.events import NEVER, IndexChange
from perdure.core.values import differing_path
from perdure.engine.logs import logger
from perdure.journal.state import Record

if TYPE_CHECKING:
    from perdure.engine.execution import Execution
    from perdure.engine.scopes import Scope

WAYS_OUT: Final = (
    "restore the old code and 'perdure resume' the run; or make the new code ask for what is recorded: run.now() for "
    "clocks, key= for renamed steps, run.patched('id') around inserted ones; or start another run"
)
MOST_SHOWN: Final = 2000


def park(execution: Execution, reason: str, message: str, detail: dict[str, Any]) -> NoReturn:
    """Park the run with a named reason, and end this turn."""
    payload = {"reason": reason, "message": message, "detail": detail}
    change = IndexChange(status="paused", reason=reason, due_ms=NEVER)
    recorded = execution.redact(orjson.dumps(payload))
    execution.log.add(execution.services.draft(kinds.RUN_PAUSED, recorded, change=change))
    run_id, told = execution.run_id, orjson.loads(recorded)["message"]
    execution.log.when_durable(
        lambda: logger.warning("run %s: parked (%s): %s", run_id, reason, told, extra={"run_id": run_id})
    )
    execution.stop("park")
    raise RunAbandoned(message)


async def other_input(execution: Execution, scope: Scope, key: str, record: Record, what: str, data: bytes) -> NoReturn:
    """A recorded key was asked with another input."""
    found = orjson.loads(data)
    recorded = await _recorded_input(execution, record)
    if record.what != what:
        cause, path = f"was recorded as {record.what} and is now {what}", "$"
    else:
        path = differing_path(recorded, found) if recorded is not None else "$"
        cause = f"was recorded with another input (they differ at {path})"
    detail = {
        "step": key,
        "scope": scope.path,
        "recorded": _short(recorded),
        "asked": _short(found),
        "path": path,
        "what_to_do": WAYS_OUT,
    }
    park(execution, "drift", f"{key} in {scope.path} {cause}", detail)


async def _recorded_input(execution: Execution, record: Record) -> Any:
    event = record.intent or record.fact
    if event is None or event.data is None:
        return None
    data = event.data
    if "asked" in data:
        return data["asked"]
    if "child" in data:
        return {"input": await execution.value_of(data, "input"), "workflow": data["workflow"]}
    if "value" in data:
        return await execution.value_of(data, "value")
    if record.what == "emit":
        return data
    if "input" not in data and record.intent is not None:
        data = record.intent.data
    return await execution.value_of(data, "input")


def not_asked(execution: Execution, scope: Scope, key: str | None) -> NoReturn:
    """An effect, wait or child is recorded here and the code went past it."""
    missing = sorted(scope.unasked)
    before = f"before {key} starts" if key is not None else "before the scope ended"
    detail = {"step": missing[0], "missing": missing, "scope": scope.path, "asked": key, "what_to_do": WAYS_OUT}
    park(
        execution,
        "drift",
        f"{', '.join(missing)} is recorded in {scope.path} but was not asked for again {before}",
        detail,
    )


async def other_type(execution: Execution, scope: Scope, key: str, what: str, error: PerdureError) -> NoReturn:
    """A recorded value no longer validates against its declared type."""
    detail = {"step": key, "scope": scope.path, "path": error.ids.get("path", "$"), "what_to_do": WAYS_OUT}
    park(execution, "drift", f"the recorded {what} of {key} in {scope.path} no longer fits: {error.message}", detail)


def check_written(execution: Execution, scope: Scope, key: str, record: Record, what: str, data: bytes) -> None:
    """For calls that append without awaiting: the record must be of the same kind and input, else the run is parked."""
    fingerprint = record.fingerprint
    if not fingerprint and record.fact is not None and record.fact.payload is not None:
        fingerprint = sha256(record.fact.payload).hexdigest()
    if record.what == what and fingerprint == sha256(data).hexdigest():
        return
    if record.what == what and _same_but_for_secrets(execution, record, what, data):
        return
    fact = record.fact.data if record.fact is not None else None
    recorded = fact if what == "emit" or fact is None else fact.get("value", fact.get("artifact"))
    asked = orjson.loads(data) if what != "put" and data else None
    if what == "put":
        asked = sha256(data).hexdigest()
    elif what == "join" and fact is not None:
        recorded = {"count": fact.get("count")}
    detail = {
        "step": key,
        "scope": scope.path,
        "recorded": _short(recorded),
        "asked": _short(asked),
        "path": differing_path(recorded, asked),
        "what_to_do": WAYS_OUT,
    }
    cause = "was recorded with another value" if record.what == what else f"was recorded as {record.what}, not {what}"
    park(execution, "drift", f"{key} in {scope.path} {cause}", detail)


def _same_but_for_secrets(execution: Execution, record: Record, what: str, data: bytes) -> bool:
    """Whether what is recorded is what is written again, but for secrets that were not known as such when it was
    recorded."""
    if not execution.services.redactor or record.fact is None or record.fact.data is None:
        return False
    if what == "emit":
        recorded = record.fact.payload or b""
    elif what == "state" and "value" in record.fact.data:
        recorded = canonical(record.fact.data["value"])
    else:
        return False
    return execution.redact(recorded) == data


def check_scope_end(scope: Scope) -> None:
    """At its end a scope must have asked for every effect, wait and child that is recorded in it."""
    if scope.unasked and scope.execution.stopping is None:
        not_asked(scope.execution, scope, None)


def _short(value: Any) -> Any:
    """A value for a message: itself, or the beginning of its text."""
    data = orjson.dumps(value)
    return value if len(data) <= MOST_SHOWN else data[:MOST_SHOWN].decode(errors="replace") + "…"
