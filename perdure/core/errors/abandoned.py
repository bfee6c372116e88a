"""Not for user code to catch."""

from __future__ import annotations


class RunAbandoned(BaseException):
    """This execution of the run is over (lease lost, failed append, drain, pause, drift); nothing it does counts.

    A `BaseException`, so that `except Exception` in user code does not swallow it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
