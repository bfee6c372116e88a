"""API keys: tokens that are kept as hashes, with scopes, an expiry and revocation.

The first token is made at the first start and lies in the data directory, readable by its owner alone. It is drawn from
256 random bits, as all tokens are, so a plain SHA-256 of it can neither be guessed nor turned back.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from perdure.core.errors import InputError, NotFoundError
from perdure.core.ids import check_name

ADMIN: Final = "admin"
RUNS_READ: Final = "runs:read"
RUNS_WRITE: Final = "runs:write"
QUESTIONS_ANSWER: Final = "questions:answer"
WORKERS: Final = "workers"
SCOPES: Final = (RUNS_READ, RUNS_WRITE, QUESTIONS_ANSWER, WORKERS, ADMIN)
"""What a key may be good for; `admin` is good for everything."""

TOKEN_FILE: Final = "token"
KEYS_FILE: Final = "keys.json"
TOKEN_BYTES: Final = 32
OWNER_ONLY: Final = 0o600
FIRST_KEY: Final = "first"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept.

    Args:
        name: unique; who it is for. Commands that come with it name `service:<name>` as their actor.
        hash: SHA-256 of its token, in hex.
        scopes: what it is good for.
        expires_ms: milliseconds since 1970 (UTC) from which it is good for nothing, if ever.
        revoked: it is good for nothing.
    """

    name: str
    hash: str
    scopes: tuple[str, ...]
    expires_ms: int | None = None
    revoked: bool = False

    def may(self, scope: str) -> bool:
        """Whether it is good for this."""
        return scope in self.scopes or ADMIN in self.scopes


class KeyRing:
    """The keys of a service.

    Args:
        keys: those that are known.
        path: of the file where they are kept; `None` keeps them in memory.
        token: of the first key, for the start-up URL.
        now_ms: the wall clock, in milliseconds since 1970.
    """

    def __init__(
        self,
        keys: Iterable[ApiKey] = (),
        *,
        path: Path | None = None,
        token: str | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._keys = {key.name: key for key in keys}
        self._path = path
        self.token = token
        self._now_ms = now_ms

    @classmethod
    def fresh(cls) -> KeyRing:
        """One new token that is good for everything and is kept nowhere."""
        token = _new_token()
        return cls([ApiKey(FIRST_KEY, hash_of(token), (ADMIN,))], token=token)

    @classmethod
    def open(cls, directory: Path) -> KeyRing:
        """The keys of a data directory; its first token is made if there is none.

        Args:
            directory: where `token` and `keys.json` lie, or will.

        Raises:
            InputError: they cannot be read, or others than their owner may read the token.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            token = _first_token(directory / TOKEN_FILE)
            path = directory / KEYS_FILE
            kept = [_key_of(one) for one in orjson.loads(path.read_bytes())] if path.exists() else []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"the keys in {directory} cannot be read: {error}", path=str(directory)) from error
        return cls([*kept, ApiKey(FIRST_KEY, hash_of(token), (ADMIN,))], path=path, token=token)

    def add(self, name: str, scopes: Iterable[str], *, expires_ms: int | None = None) -> str:
        """Make a key, and give its token; nobody can find out the token later.

        Raises:
            InvalidIdError: the name is outside its grammar.
            InputError: the name is taken, or there is no such scope.
        """
        check_name(name, field="key")
        wanted = tuple(scopes)
        unknown = [scope for scope in wanted if scope not in SCOPES]
        if unknown:
            raise InputError(f"there is no scope {unknown[0]!r}", hint=f"it is one of: {', '.join(SCOPES)}")
        if name in self._keys:
            raise InputError(f"a key {name!r} exists already", key=name)
        token = _new_token()
        self._change(ApiKey(name, hash_of(token), wanted, expires_ms))
        return token

    def revoke(self, name: str) -> None:
        """Make a key good for nothing, at once and for ever.

        Raises:
            NotFoundError: there is no such key.
        """
        if name not in self._keys:
            raise NotFoundError(f"there is no key {name!r}", key=name)
        self._change(replace(self._keys[name], revoked=True))

    def find(self, token: str) -> ApiKey | None:
        """The key of a token, if it is good for anything now. How long it takes says nothing about the keys."""
        given, found = hash_of(token), None
        for key in self._keys.values():
            if hmac.compare_digest(key.hash, given):
                found = key
        if found is None or found.revoked or (found.expires_ms is not None and found.expires_ms <= self._now_ms()):
            return None
        return found

    def _change(self, key: ApiKey) -> None:
        changed = self._keys | {key.name: key}
        if self._path is not None:
            kept = [asdict(one) for one in changed.values() if one.name != FIRST_KEY]
            _write(self._path, orjson.dumps(kept, option=orjson.OPT_INDENT_2))
        self._keys = changed


def hash_of(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _new_token() -> str:
    return f"pd_{secrets.token_urlsafe(TOKEN_BYTES)}"


def _first_token(path: Path) -> str:
    if not path.exists():
        _write(path, _new_token().encode())
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} may be read by others than its owner; make it mode 0600, or remove it")
    token = path.read_text().strip()
    if not token:
        raise ValueError(f"{path} is empty; remove it, and a new token is made")
    return token


def _key_of(tree: dict[str, Any]) -> ApiKey:
    return ApiKey(**(tree | {"scopes": tuple(tree["scopes"])}))


def _write(path: Path, data: bytes) -> None:
    """Replace a file as a whole; nobody but its owner can ever read it."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
