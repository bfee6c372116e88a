"""The logs of a process that executes runs: set up as its options say."""

from __future__ import annotations

from typing import Final, cast

DEFAULT_LEVEL: Final = "info"


def set_up_logs(form: str | None, level: str | None) -> None:
    """Set up the logs; without either option they are left as Python has them: then the engine says
    nothing, and of authors' logs warnings are shown.

    Args:
        form: `text` or `json`; text if only the level was given.
        level: `info` if only the form was given.

    Raises:
        InputError: there is no such form or level.
    """
    if form is None and level is None:
        return
    from perdure.engine.logs import Form, configure

    configure(form=cast("Form", form or "text"), level=level or DEFAULT_LEVEL)
