"""`Face`: what all faces of the client send and read by."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from perdure.core.canonical import canonical
from perdure.core.errors import InputError, NotFoundError, RunNotFoundError
from perdure.core.ids import RUN_ID, check_key

if TYPE_CHECKING:
    from perdure.client.transport import Query, Reply, Transport


class Face:
    """A group of the client's methods."""

    _transport: Transport

    async def _get(self, path: str, **query: Any) -> dict[str, Any]:
        return (await self._fetch(path, query)).json()

    async def _fetch(
        self, path: str, query: Query | None = None, *, headers: Mapping[str, str] | None = None, whatever: bool = False
    ) -> Reply:
        from perdure.client.transport import Ask

        return await self._transport.ask(Ask("GET", path, query or {}, headers=headers or {}, whatever=whatever))

    async def _post(
        self, path: str, body: Mapping[str, Any], key: str | None = None, *, keyless: bool = False, once: bool = False
    ) -> dict[str, Any]:
        """Send a command.

        Args:
            path, body: what it is.
            key: under which the service recognises it when it comes again; drawn if omitted.
            keyless: it is recognised by what it holds.
            once: it is not recognised.
        """
        from perdure.client.transport import Ask

        headers = {} if keyless else {"idempotency-key": command_key(key)}
        ask = Ask("POST", path, body=json_bytes(dict(body)), headers=headers, once=once)
        return (await self._transport.ask(ask)).json()


def json_bytes(tree: object) -> bytes:
    """The JSON of what is sent.

    Raises:
        ValueRefusedError: it is no JSON.
    """
    return canonical(tree)


def command_key(key: str | None) -> str:
    """The key of a command: the one that is given, or a new one.

    Raises:
        InvalidIdError: it is outside its grammar, or no header can carry it.
    """
    if key is None:
        return secrets.token_hex(16)
    if not isinstance(key, str) or not key.isascii() or key != key.strip():
        raise InputError("an idempotency key is ASCII, without spaces around it", field="idempotency_key")
    return check_key(key, field="idempotency_key")


def run_path(run_id: str, *parts: str) -> str:
    """The path of a run, or of something below it.

    Raises:
        RunNotFoundError: no run can have this id.
    """
    if not isinstance(run_id, str) or RUN_ID.fullmatch(run_id) is None:
        raise RunNotFoundError(f"no run {run_id!r}", run_id=run_id)
    return path_of("runs", run_id, *parts)


def path_of(*parts: str) -> str:
    """A path of parts, each quoted as a whole.

    Raises:
        NotFoundError: nothing can have such a name.
    """
    for part in parts:
        if not isinstance(part, str) or part in ("", ".", ".."):
            raise NotFoundError(f"there is no {part!r}")
    try:
        return "/" + "/".join(quote(part, safe="") for part in parts)
    except UnicodeEncodeError as error:  # half a character
        raise NotFoundError(f"there is no {parts[-1]!r}") from error


def given(**members: Any) -> dict[str, Any]:
    """The members of a body that are there."""
    return {name: value for name, value in members.items() if value is not None}


def texts(several: Iterable[str] | None) -> list[str] | None:
    """Several texts as a list; a single text is not several characters.

    Raises:
        InputError: it is one text.
    """
    if isinstance(several, str):
        raise InputError("several texts are expected, in a list", field="tags")
    return None if several is None else list(several)
