"""The `status.json` that a command left: the outcome of its stage in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from perdure.core.canonical import JSONValue, parse_strict
from perdure.core.errors import ValueRefusedError
from perdure.core.values import codec_for
from perdure.pipeline.commands.errors import CommandStatusError
from perdure.pipeline.commands.files import STATUS_FILE
from perdure.pipeline.outcome import STATUSES

_MOST_BYTES: Final = 1024 * 1024
_NAMES: Final = ("outcome", "status")
_TEXTS: Final = ("preferred_label", "notes", "failure_reason")


def status_json(files: Mapping[str, bytes]) -> dict[str, JSONValue] | None:
    """The outcome that the files of a stage hold.

    Read are `status` (or `outcome`, which is the same), `preferred_label`, `suggested_next_ids`, `context_updates`,
    `notes` and `failure_reason`. Of these, all but the status may be missing or null; other keys are the command's own.

    Args:
        files: contents by path.

    Returns:
        The fields that are given, the status under `status`; `None` if there is no `status.json`.

    Raises:
        CommandStatusError: there is one, and it is no outcome; its message says why.
    """
    data = files.get(STATUS_FILE)
    if data is None:
        return None
    members = _members(data)
    outcome: dict[str, JSONValue] = {"status": _status(members)}
    for name in _TEXTS:
        _take(outcome, members, name, str, "text")
    _take(outcome, members, "suggested_next_ids", list, "a list of texts")
    if not all(isinstance(one, str) for one in _items(outcome.get("suggested_next_ids"))):
        raise _error("'suggested_next_ids' must be a list of texts")
    _take(outcome, members, "context_updates", dict, "an object")
    if _has_nul(outcome):
        raise _error("a text holds NUL")
    return outcome


def _members(data: bytes) -> dict[str, JSONValue]:
    if len(data) > _MOST_BYTES:
        raise _error(f"it is larger than {_MOST_BYTES} bytes")
    try:
        tree = parse_strict(data)
        codec_for(Any).dump(tree)  # what cannot be recorded is refused here, where the file can be named
    except ValueRefusedError as error:
        raise _error(error.message) from error
    if not isinstance(tree, dict):
        raise _error("it is not an object")
    return tree


def _status(members: dict[str, JSONValue]) -> str:
    given = [members[name] for name in _NAMES if members.get(name) is not None]
    if not given:
        raise _error("it has neither 'outcome' nor 'status'")
    if given[0] != given[-1]:
        raise _error("'outcome' and 'status' say different things")
    status = given[0]
    if not isinstance(status, str) or status not in STATUSES:
        raise _error(f"the outcome {str(status)[:80]!r} is none of {', '.join(sorted(STATUSES))}")
    return status


def _take(outcome: dict[str, JSONValue], members: dict[str, JSONValue], name: str, kind: type, told: str) -> None:
    value = members.get(name)
    if value is None:
        return
    if not isinstance(value, kind):
        raise _error(f"{name!r} must be {told}")
    outcome[name] = value


def _items(value: JSONValue) -> list[JSONValue]:
    return value if isinstance(value, list) else []


def _has_nul(value: JSONValue) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(child) for key, child in value.items())
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def _error(reason: str) -> CommandStatusError:
    return CommandStatusError(f"{STATUS_FILE}: {reason}", file=STATUS_FILE)
