"""Redacting text that comes in pieces: a secret may be cut in two by them.

What might become a secret is held back until more has come: a tail that begins like a declared value, and a word (or a
key in armour) that holds the beginning of a well-known shape. So no cut goes through what the whole text would have
been redacted at; where a shape goes on for longer than `MOST_HELD`, the rest of it is left out. Ordinary words are not
held back.
"""

from __future__ import annotations

import re
from typing import Final

from perdure.core.secrets import Redactor, redact_shapes

MOST_HELD: Final = 8192
"""Characters of one word, or of one key in armour, that are held back at most."""

_MARKS: Final = ("sk-", "AKIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "eyJ", "://")
_MARK: Final = re.compile("|".join(map(re.escape, _MARKS)))
# Where a word begins, an escape of JSON text before it counts as its edge; `://` may follow any word.
_EDGE: Final = r"(?:(?<![A-Za-z0-9_])|(?<=\\[bfnrt])|(?<=\\u[0-9a-fA-F]{4}))"
_BEGINNINGS: Final = sorted({mark[:size] for mark in _MARKS[:-1] for size in range(1, len(mark))})
_BEGINNING: Final = re.compile(f"(?:{_EDGE}(?:{'|'.join(_BEGINNINGS)})|:/?)$")
_ARMOUR: Final = "-----BEGIN "
_ARMOUR_BEGINNING: Final = re.compile(
    "(?:" + "|".join(_ARMOUR[:size] for size in range(len(_ARMOUR) - 1, 0, -1)) + ")$"
)
_ARMOUR_END: Final = re.compile("-----END [^-]*-----")
_SPACE: Final = re.compile(r"\s")


class RedactedStream:
    """Text that is redacted while it comes.

    Args:
        redactor: knows the declared values.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""
        self._skipped_until: re.Pattern[str] | None = None

    def feed(self, text: str) -> str:
        """What may be shown now, of this text and of what was held back before it."""
        if self._skipped_until is not None:
            end = self._skipped_until.search(text)
            if end is None:
                return ""
            text, self._skipped_until = text[end.start() :], None
        self._held += text
        ready = self._taken(self._settled(len(self._held)))
        if len(self._held) <= max(MOST_HELD, self._redactor.longest):
            return ready
        return ready + self._overflow()

    def end(self) -> str:
        """What was held back: nothing more comes."""
        return self._taken(len(self._held))

    def _taken(self, size: int) -> str:
        ready, self._held = self._held[:size], self._held[size:]
        if not ready:
            return ready
        data = self._redactor.redact_text(ready).encode("utf-8", "surrogatepass")
        return redact_shapes(data).decode("utf-8", "surrogatepass")

    def _settled(self, place: int) -> int:
        """The last place, at most this one, where the held text can be cut."""
        while True:
            lower = self._redactor.cut(self._held, _cut(self._held, place))
            if lower == place:
                return place
            place = lower

    def _overflow(self) -> str:
        """Let go of what was held back for too long; if it is a secret, the rest of it is left out."""
        held = self._held
        shown = self._taken(self._redactor.cut(held, len(held)))
        if not held.startswith(shown):
            self._skipped_until = _ARMOUR_END if _ARMOUR in held else _SPACE
        return shown


def _cut(text: str, place: int) -> int:
    """The last place, at most this one, that is not within what may be the shape of a secret."""
    armour = text.rfind(_ARMOUR, 0, place)
    if armour >= 0 and _ARMOUR_END.search(text, armour, place) is None:
        return armour
    beginning = _ARMOUR_BEGINNING.search(text, max(0, place - len(_ARMOUR)), place)
    if beginning is not None:
        place = beginning.start()
    word = place
    while word and not text[word - 1].isspace():
        word -= 1
    held = text[word:place]
    return word if _MARK.search(held) or _BEGINNING.search(held) else place
