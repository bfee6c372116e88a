"""The environment of a command: nothing gets in that is not named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MORE_NAMES: Final = "PERDURE_TOOL_ENV"
"""The variable that names further variables to pass on, for example `PERDURE_TOOL_ENV=CI,SSH_AUTH_SOCK`."""

_LOCALE: Final = [
    "ADDRESS",
    "ALL",
    "COLLATE",
    "CTYPE",
    "IDENTIFICATION",
    "MEASUREMENT",
    "MESSAGES",
    "MONETARY",
    "NAME",
    "NUMERIC",
    "PAPER",
    "TELEPHONE",
    "TIME",
]
ALLOWED: Final = frozenset(
    ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "TERM", "USER", "LOGNAME", "SHELL", "VIRTUAL_ENV"]
    + [f"LC_{name}" for name in _LOCALE]
)


def allowed_environment(environ: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """What a command may know of this process's environment.

    The locale's variables are listed one by one: a prefix would let in `LC_` and anything behind it.

    Args:
        environ: of this process. Of it pass `ALLOWED` and the names, separated by commas, in its `PERDURE_TOOL_ENV`.
        extra: passed as it is; wins over `environ`.
    """
    named = {name.strip() for name in environ.get(MORE_NAMES, "").split(",")}
    return {name: value for name, value in environ.items() if name in ALLOWED or name in named} | dict(extra)
