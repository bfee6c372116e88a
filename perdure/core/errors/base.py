"""`PerdureError`, the root of the tree."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Category = Literal["input", "definition", "conflict", "state", "step", "store", "integrity", "lease", "service"]


class PerdureError(Exception):
    """Base of all errors of Perdure.

    Args:
        message: the cause, in one line.
        hint: what the reader can do about it; the class's own `default_hint` if omitted.
        ids: the ids that matter, for example `run_id="…"`, `step="search#2"`; `None` values are dropped.
    """

    code: ClassVar[str] = "error"
    category: ClassVar[Category] = "input"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, **ids: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.ids: dict[str, Any] = {name: value for name, value in ids.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """The error as plain JSON data: code, category, retryable, message, hint and ids."""
        return {
            "code": self.code,
            "category": self.category,
            "retryable": self.retryable,
            "message": self.message,
            "hint": self.hint,
            "ids": dict(self.ids),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.ids))


def _rebuild(cls: type[PerdureError], message: str, hint: str, ids: dict[str, Any]) -> PerdureError:
    error = cls.__new__(cls)
    PerdureError.__init__(error, message, hint=hint, **ids)
    return error
