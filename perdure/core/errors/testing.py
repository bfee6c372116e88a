"""What `perdure.testing` cannot do."""

from __future__ import annotations

from perdure.core.errors.input import InputError
from perdure.core.errors.state import StateError


class NotSettledError(StateError):
    """A virtual clock cannot move: what runs under it does not come to rest, or waits for no timer."""

    code = "not_settled"


class CrashMatrixError(InputError):
    """A crash matrix cannot be made: its workflow cannot be found again in another process, or never ends."""

    code = "crash_matrix"
