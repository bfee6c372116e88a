"""Where a model is asked: the base URL and the headers, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from perdure.core.errors import SecretError
from perdure.core.secrets import Redactor, Secret, find_secret_shape, resolve
from perdure.engine.current import step_info
from perdure.model.errors import ModelConfigurationError

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_UNFIT: Final = re.compile(r"[\x00-\x20\x7f\\]")
_OURS: Final = frozenset(("accept", "accept-encoding", "connection", "content-length", "content-type", "host"))

HeaderValues = Mapping[str, str | Secret]


def check_base_url(url: object) -> str:
    """The URL without a slash at its end.

    Raises:
        ModelConfigurationError: it is no absolute http or https URL, or holds credentials, a query or a fragment. The
            message never repeats it: it may hold a password.
    """
    problem = _problem_of(url)
    if problem is not None:
        raise ModelConfigurationError(
            f"the base URL of a model endpoint {problem}", hint="write it as https://host/v1, without key or password"
        )
    return str(url).rstrip("/")


def _problem_of(url: object) -> str | None:
    if not isinstance(url, str) or not url:
        return "must be a text"
    if _UNFIT.search(url):
        return "holds a blank, a backslash or a control character"
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "cannot be parsed"
    if parts.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not host:
        return "names no host"
    if "@" in parts.netloc:
        return "must not hold credentials"
    return "must have no query and no fragment" if "?" in url or "#" in url else None


def check_headers(headers: HeaderValues) -> dict[str, str | Secret]:
    """Extra headers by name in lower case.

    Raises:
        ModelConfigurationError: a name or value is none, a name is taken, or a value should be a `Secret`. The message
            never repeats a value.
    """
    checked: dict[str, str | Secret] = {}
    for name, value in headers.items():
        lower = name.lower() if isinstance(name, str) else ""
        if not _HEADER_NAME.fullmatch(lower) or lower in _OURS or lower in checked:
            raise ModelConfigurationError(f"the header {name!r} cannot be set")
        if not isinstance(value, Secret):
            if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
                raise ModelConfigurationError(f"the value of the header {name!r} is no line of ASCII text")
            if lower == "authorization" or find_secret_shape(value):
                hint = "pass Secret('env:NAME') as its value"
                raise ModelConfigurationError(f"the header {name!r} holds a secret in plain", hint=hint)
        checked[lower] = value
    return checked


def revealed(headers: HeaderValues, redactor: Redactor) -> dict[str, str]:
    """The headers with every secret looked up, by the step that is running, else in this process's environment.

    Args:
        headers: checked ones.
        redactor: told every value.

    Raises:
        SecretError: one cannot be looked up, or is not fit for a header.
    """
    plain: dict[str, str] = {}
    for name, value in headers.items():
        if isinstance(value, Secret):
            plain[name] = _looked_up(value)
            redactor.declare(value, plain[name])
            if not _HEADER_VALUE.fullmatch(plain[name]):
                raise SecretError(f"the value of {value.reference} is no line of ASCII text", secret=value.reference)
        else:
            plain[name] = value
    return plain


def _looked_up(secret: Secret) -> str:
    running = step_info.get()
    if running is not None:
        return running.reveal(secret)
    import os

    return resolve(secret, os.environ, lambda path: Path(path).read_text())
