"""API keys: tokens that are kept as hashes, with scopes, an expiry, a rate and revocation.

The first token is made at the first start and lies in the data directory, readable by its owner alone. It is drawn from
256 random bits, as all tokens are, so a plain SHA-256 of it can neither be guessed nor turned back.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from perdure.core.errors import InputError, NotFoundError
from perdure.core.ids import check_name
from perdure.server.admission.key_files import KeyFiles
from perdure.server.admission.rates import Rate

ADMIN: Final = "admin"
RUNS_READ: Final = "runs:read"
RUNS_WRITE: Final = "runs:write"
QUESTIONS_ANSWER: Final = "questions:answer"
WORKERS: Final = "workers"
SCOPES: Final = (RUNS_READ, RUNS_WRITE, QUESTIONS_ANSWER, WORKERS, ADMIN)
"""What a key may be good for; `admin` is good for everything."""

TOKEN_BYTES: Final = 32
FIRST_KEY: Final = "first"
UNREADABLE: Final = (OSError, ValueError, TypeError, KeyError, InputError)
"""What the reading of files that are no keys raises."""

logger = logging.getLogger("perdure.server")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept.

    Args:
        name: unique; who it is for. Commands that come with it name `service:<name>` as their actor.
        hash: SHA-256 of its token, in hex.
        scopes: what it is good for.
        expires_ms: milliseconds since 1970 (UTC) from which it is good for nothing, if ever.
        revoked: it is good for nothing.
        created_ms: when it was made.
        rate: how many requests it may send; if omitted, as many as the service allows every key.
    """

    name: str
    hash: str
    scopes: tuple[str, ...]
    expires_ms: int | None = None
    revoked: bool = False
    created_ms: int | None = None
    rate: Rate | None = None

    def may(self, scope: str) -> bool:
        """Whether it is good for this."""
        return scope in self.scopes or ADMIN in self.scopes

    def status(self, now_ms: int) -> str:
        """`good`, `expired` or `revoked`."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires_ms is not None and self.expires_ms <= now_ms else "good"

    def to_dict(self) -> dict[str, Any]:
        """The key as data."""
        names = ("name", "hash", "scopes", "expires_ms", "revoked", "created_ms")
        return {name: getattr(self, name) for name in names} | {"rate": None if self.rate is None else str(self.rate)}


class KeyRing:
    """The keys of a service.

    Those of a directory are read again when its files have changed, so that what the command line changes holds from
    the next request on.

    Args:
        keys: those that are known.
        files: where they are kept; `None` keeps them in memory.
        token: of the first key, for the start-up URL.
        now_ms: the wall clock, in milliseconds since 1970.
    """

    def __init__(
        self,
        keys: Iterable[ApiKey] = (),
        *,
        files: KeyFiles | None = None,
        token: str | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._keys = {key.name: key for key in keys}
        self._files = files
        self._version = None if files is None else files.version()
        self.token = token
        self._now_ms = now_ms

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(sorted(self._keys.values(), key=lambda key: (key.created_ms or 0, key.name)))

    @classmethod
    def fresh(cls) -> KeyRing:
        """One new token that is good for everything and is kept nowhere."""
        token = _new_token()
        return cls([_first(token)], token=token)

    @classmethod
    def open(cls, directory: Path, *, make: bool = True) -> KeyRing:
        """The keys of a data directory.

        Args:
            directory: where `token` and `keys.json` lie, or will.
            make: the first token is made if there is none.

        Raises:
            InputError: they cannot be read, or others than their owner may read the token.
        """
        files = KeyFiles(directory)
        try:
            if make:
                files.make()
                with files.locked():
                    if files.token() is None:
                        files.write_token(_new_token())
            ring = cls(files=files)
            ring._read()
        except UNREADABLE as error:
            raise InputError(f"the keys in {directory} cannot be read: {error}", path=str(directory)) from error
        return ring

    def add(self, name: str, scopes: Iterable[str], *, expires_ms: int | None = None, rate: Rate | None = None) -> str:
        """Make a key, and give its token; nobody can find out the token later.

        Raises:
            InvalidIdError: the name is outside its grammar.
            InputError: the name is taken, or there is no such scope.
        """
        check_name(name, field="key")
        wanted = tuple(dict.fromkeys(scopes))
        unknown = [scope for scope in wanted if scope not in SCOPES]
        if unknown or not wanted:
            problem = f"there is no scope {unknown[0]!r}" if unknown else f"the key {name!r} has no scope"
            raise InputError(problem, hint=f"it is one of: {', '.join(SCOPES)}", field="scope")
        token = _new_token()
        made = ApiKey(name, hash_of(token), wanted, expires_ms, created_ms=self._now_ms(), rate=rate)

        def added(known: ApiKey | None) -> ApiKey:
            if known is not None:
                raise InputError(
                    f"a key {name!r} exists already", hint="choose another name; one is never used again", key=name
                )
            return made

        self._change(name, added)
        return token

    def revoke(self, name: str) -> None:
        """Make a key good for nothing, at once and for ever.

        In place of the first one another is made, which the next start of the service tells: a service that nobody can
        enter any more would help nobody.

        Raises:
            NotFoundError: there is no such key.
        """
        if name == FIRST_KEY:
            self._replace_first()
            return

        def revoked(known: ApiKey | None) -> ApiKey:
            if known is None:
                raise NotFoundError(f"there is no key {name!r}", key=name)
            return replace(known, revoked=True)

        self._change(name, revoked)

    def find(self, token: str) -> ApiKey | None:
        """The key of a token, if it is good for anything now. How long it takes says nothing about the keys."""
        self._look()
        given, found = hash_of(token), None
        for key in self._keys.values():
            if hmac.compare_digest(key.hash, given):
                found = key
        return found if found is not None and found.status(self._now_ms()) == "good" else None

    # --- what is kept -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read them again if they have changed. What cannot be read changes nothing, and is logged once."""
        if self._files is None or (version := self._files.version()) == self._version:
            return
        try:
            self._read()
        except UNREADABLE as error:
            self._version = version
            logger.error("the keys in %s cannot be read, so the old ones hold: %s", self._files.directory, error)

    def _read(self) -> None:
        assert self._files is not None
        version = self._files.version()
        token = self._files.token()
        kept = _keys_of(self._files.keys())
        self._keys = {key.name: key for key in ([] if token is None else [_first(token)]) + kept}
        self.token, self._version = token, version

    def _change(self, name: str, changed: Callable[[ApiKey | None], ApiKey]) -> None:
        if self._files is None:
            self._keys = self._keys | {name: changed(self._keys.get(name))}
            return
        try:
            self._files.make()
            with self._files.locked():
                self._read()
                self._keys = self._keys | {name: changed(self._keys.get(name))}
                kept = [key.to_dict() for key in self._keys.values() if key.name != FIRST_KEY]
                self._files.write_keys(orjson.dumps(kept, option=orjson.OPT_INDENT_2))
                self._version = self._files.version()
        except OSError as error:
            raise _unwritable(self._files, error) from error

    def _replace_first(self) -> None:
        token = _new_token()
        if self._files is not None:
            try:
                self._files.make()
                with self._files.locked():
                    self._files.write_token(token)
                    self._read()
            except OSError as error:
                raise _unwritable(self._files, error) from error
        else:
            self._keys, self.token = self._keys | {FIRST_KEY: _first(token)}, token


def hash_of(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _new_token() -> str:
    return f"pd_{secrets.token_urlsafe(TOKEN_BYTES)}"


def _first(token: str) -> ApiKey:
    return ApiKey(FIRST_KEY, hash_of(token), (ADMIN,))


def _unwritable(files: KeyFiles, error: OSError) -> InputError:
    return InputError(f"the keys in {files.directory} cannot be written: {error}", path=str(files.directory))


def _keys_of(data: bytes) -> list[ApiKey]:
    found: object = orjson.loads(data)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise TypeError("they are no list of keys")
    return [_key_of(one) for one in found]


def _key_of(tree: dict[str, Any]) -> ApiKey:
    rate = tree.get("rate")
    key = ApiKey(**(tree | {"scopes": tuple(tree["scopes"]), "rate": None if rate is None else Rate.parse(rate)}))
    expiry = key.expires_ms
    if not (isinstance(key.name, str) and isinstance(key.hash, str) and isinstance(key.revoked, bool)) or not (
        expiry is None or isinstance(expiry, int)
    ):
        raise TypeError(f"the key {key.name!r} has a member of a wrong type")
    return key
