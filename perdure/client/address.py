"""Where the service is, and with which token it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from perdure.core.errors import InputError

_HINT = "write http://HOST:PORT, or the whole URL that the service prints at its start"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service is.

    Args:
        url: without a slash at its end, and without any secret.
        token: of an API key; shown nowhere.
    """

    url: str
    token: str | None = field(default=None, repr=False)


def read_address(url: str, token: str | None = None) -> Address:
    """Read the address of a service.

    Args:
        url: as the service prints it at its start, with or without `#token=…`.
        token: of an API key, where the URL bears none.

    Raises:
        InputError: it is no such URL, or it bears another token; no secret stands in the message.
    """
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError) as error:
        raise InputError("the address of the service is no URL", hint=_HINT, field="url") from error
    if not usable or parts.query or any(ord(one) <= ord(" ") for one in parts.netloc + parts.path):
        raise InputError("the address of the service is no http or https URL", hint=_HINT, field="url")
    if "@" in parts.netloc:
        raise InputError("the address of the service bears credentials", hint="pass the token instead", field="url")
    given = parse_qs(parts.fragment).get("token", [])
    if len(given) > 1 or (given and token is not None and given != [token]):
        raise InputError("two different tokens are given", hint="leave one out", field="token")
    found = given[0] if given else token
    if found is not None and (not found.isascii() or not found.isprintable() or not found or " " in found):
        raise InputError("the token is none: it has characters that no token has", field="token")
    return Address(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", found)
