"""Refusals: why a value cannot be recorded or read, and where in it the reason lies."""

from __future__ import annotations

from typing import Final

from perdure.core.errors import PerdureError
from perdure.core.values.trees import shape_of, step_text

MAX_DEPTH: Final = 64
"""Lists, dicts and records may be nested this deep."""


class Refusal(Exception):
    """Why a value is refused; collects its place from the inside out, so that nothing is spent on paths until then."""

    def __init__(self, reason: str, *, mismatch: bool = False, too_deep: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mismatch = mismatch
        self.too_deep = too_deep
        self.steps: list[tuple[str | int, int]] = []

    def at(self, step: str | int, container: object) -> None:
        self.steps.append((step, id(container)))

    def error(self, kind: type[PerdureError], path: str) -> PerdureError:
        steps = list(reversed(self.steps))
        if self.too_deep:
            containers = [container for _, container in steps]
            cyclic = len(set(containers)) < len(containers)
            path += "".join(step_text(step) for step, _ in steps[:4]) + "…"
            reason = "it contains itself" if cyclic else f"it is nested deeper than {MAX_DEPTH}"
            return kind(f"{path}: {reason}", path=path)
        path += "".join(step_text(step) for step, _ in steps)
        return kind(f"{path}: {self.reason}", path=path)


def mismatch(expected: str, value: object) -> Refusal:
    shape = shape_of(value)
    got = shape if shape[:1] == "$" else "None" if value is None else type(value).__name__
    return Refusal(f"expected {expected}, got {got}", mismatch=True)


def type_name(declared: object) -> str:
    if declared is None or declared is type(None):
        return "None"
    return declared.__qualname__ if isinstance(declared, type) else repr(declared).replace("typing.", "")


def is_same(a: object, b: object) -> bool:
    try:
        return type(a) is type(b) and bool(a == b)
    except Exception:  # a comparison of the user's own
        return False


def check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise Refusal("too deep", too_deep=True)


def check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refusal("a lone surrogate is no Unicode text") from None


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def shown_cause(error: Exception) -> Exception | None:
    """The cause to show in a traceback: not an error of pydantic, which quotes the input."""
    return None if type(error).__module__.startswith("pydantic") else error


def refusal_by(error: Exception, whose: str) -> Refusal:
    """What a class's own code, or pydantic, had against a value; of a validation error the first, without the input."""
    errors = getattr(error, "errors", None)
    if type(error).__name__ != "ValidationError" or not callable(errors):
        return Refusal(f"{whose} refuses it: {first_line(error)}", mismatch=True)
    first = errors(include_url=False, include_input=False, include_context=False)[0]
    refusal = Refusal(first["msg"], mismatch=True)
    for step in reversed(first["loc"]):
        refusal.at(step, error)
    return refusal
