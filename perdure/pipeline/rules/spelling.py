"""Names that were probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_COMPARISONS = 5_000
_LIKENESS = 0.75


class Spelling:
    """Looks among known names for the one that was meant.

    Comparing takes time, so that it stops after so many comparisons: what has hundreds of misspelled names is not
    mended one by one.

    Args:
        names: those that there are.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._left = _COMPARISONS
        self._known: dict[str, str | None] = {}

    def fix(self, name: str, otherwise: str) -> str:
        """What to do about a name that there is not: take the nearest one, if one is near, else something else."""
        if name not in self._known:
            self._left -= len(self._names)
            if self._left < 0:
                return otherwise
            near = difflib.get_close_matches(name, self._names, 1, _LIKENESS) if len(name) <= 200 else []
            self._known[name] = near[0] if near else None
        meant = self._known[name]
        return otherwise if meant is None else f"did you mean {meant!r}?"
