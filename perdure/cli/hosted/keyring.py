"""What `keys` does: change the keys in the data directory of a store's service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.cli.exits import COMPLETED
from perdure.cli.hosted.service import check_library
from perdure.cli.output import Output, table
from perdure.cli.place import Place
from perdure.cli.times import instant, now_ms
from perdure.core.durations import parse_duration
from perdure.core.errors import InputError

if TYPE_CHECKING:
    from perdure.server.admission.keys import KeyRing


def add_key(
    place: Place, output: Output, name: str, scopes: Sequence[str], expires: str | None, rate: str | None
) -> int:
    """Make a key and print its token."""
    ring = _ring(place)
    from perdure.server.admission.rates import Rate

    expires_ms = None if expires is None else now_ms() + round(parse_duration(expires, name="--expires") * 1000)
    token = ring.add(name, scopes, expires_ms=expires_ms, rate=None if rate is None else Rate.parse(rate))
    if output.json:
        output.record({"key": name, "token": token, "scopes": list(scopes), "expires_ms": expires_ms, "rate": rate})
    else:
        output.line(token)
        output.note(f"the key {name} is made; its token is not shown again")
    return COMPLETED


def list_keys(place: Place, output: Output) -> int:
    """Say which keys there are."""
    keys, now = list(_ring(place)), now_ms()
    if output.json:
        for key in keys:
            data = key.to_dict() | {"status": key.status(now)}
            output.record({name: value for name, value in data.items() if name != "hash"})
        return COMPLETED
    rows = [
        (
            key.name,
            ", ".join(key.scopes),
            key.status(now),
            "" if key.expires_ms is None else instant(key.expires_ms),
            str(key.rate or ""),
        )
        for key in keys
    ]
    if rows:
        output.show(table(("key", "scopes", "status", "expires", "rate"), rows))
    else:
        output.note("no keys yet; the first one is made when the service starts")
    return COMPLETED


def revoke_key(place: Place, output: Output, name: str) -> int:
    """Make a key good for nothing."""
    ring = _ring(place)
    from perdure.server.admission.keys import FIRST_KEY

    ring.revoke(name)
    if output.json:
        output.record({"key": name, "status": "revoked"})
    elif name == FIRST_KEY:
        output.note("the first token is good for nothing any more; the next start of the service tells the new one")
    else:
        output.note(f"the key {name} is good for nothing any more")
    return COMPLETED


def _ring(place: Place) -> KeyRing:
    """The keys of the store's service; what is not there yet is not made."""
    check_library()
    path = place.file(place.store())
    if path is None:
        raise InputError(f"{place.url} keeps no keys: they end with the service", hint="name a store that is a file")
    from perdure.server.admission.keys import KeyRing
    from perdure.server.settings import data_directory

    return KeyRing.open(data_directory(str(Path(path))), make=False)
