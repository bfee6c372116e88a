"""Identifiers: their grammar, and how the ones that are derived are derived.

Run ids, names, tags, and step and branch keys stand in journal headers and cannot be erased: no personal data belongs
in them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from perdure.core.errors import InvalidIdError

RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
TAG: Final = re.compile(r"[^\x00-\x1f\x7f\s,](?:[^\x00-\x1f\x7f,]{0,126}[^\x00-\x1f\x7f\s,])?")
KEY: Final = re.compile(r"[^\x00-\x1f\x7f/\ud800-\udfff]{1,200}")
IDEMPOTENCY_KEY_LENGTH: Final = 40

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def check_run_id(run_id: object) -> str:
    """Return `run_id` if it fits the grammar `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`, else raise `InvalidIdError`."""
    if not isinstance(run_id, str) or RUN_ID.fullmatch(run_id) is None:
        raise InvalidIdError(f"run id {run_id!r} is outside the grammar", field="id")
    return run_id


def check_name(name: object, *, field: str = "name") -> str:
    """Return `name` (of a workflow, node, step or signal) if it fits the grammar, else raise `InvalidIdError`."""
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise InvalidIdError(
            f"{field} {name!r} is outside the grammar",
            hint="use letters, digits, '_', '.' and '-', starting with a letter or '_', at most 128 characters",
            field=field,
        )
    return name


def check_key(key: object, *, field: str = "key") -> str:
    """Return `key` (of a step, branch or signal) if it fits the grammar, else raise `InvalidIdError`."""
    if not isinstance(key, str) or KEY.fullmatch(key) is None:
        raise InvalidIdError(
            f"{field} {key!r} is outside the grammar",
            hint="use 1 to 200 printable characters without '/'",
            field=field,
        )
    return key


def check_tag(tag: object) -> str:
    """Return `tag` if it fits the grammar (1 to 128 printable characters, no comma), else raise `InvalidIdError`."""
    if not isinstance(tag, str) or TAG.fullmatch(tag) is None:
        raise InvalidIdError(
            f"tag {tag!r} is outside the grammar", hint="use 1 to 128 printable characters, no comma", field="tag"
        )
    return tag


def new_run_id(time_ms: int, random: bytes) -> str:
    """A run id that sorts by time: 48 bits of `time_ms` and 80 random bits in Crockford's base 32, as ULID does.

    Args:
        time_ms: milliseconds since 1970 (UTC).
        random: at least 10 random bytes.
    """
    number = (time_ms & (1 << 48) - 1) << 80 | int.from_bytes(random[:10], "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -5, -5))


def child_run_id(parent_id: str, scope: str, key: str) -> str:
    """The id of a child run, derived from parent, scope and key, so that a spawn can be repeated without a second."""
    digest = hashlib.sha256("\x00".join(("child", parent_id, scope, key)).encode()).digest()
    return "c" + base64.b32encode(digest[:15]).decode().lower()


def idempotency_key(run_id: str, scope: str, key: str) -> str:
    """The idempotency key of an effect: hashed from run, scope and step key, never from the input."""
    return hashlib.sha256(f"{run_id}\x00{scope}\x00{key}".encode()).hexdigest()[:IDEMPOTENCY_KEY_LENGTH]


def node_scope(generation: int, node: str, visit: int) -> str:
    """The scope of one visit of a node: `generation/node#visit`."""
    return f"{generation}/{node}#{visit}"


def branch_scope(parent: str, branch: str) -> str:
    """The scope of a branch within another scope."""
    return f"{parent}/{branch}"
