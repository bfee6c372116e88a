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
_KEY_MARK: Final = re.compile("|".join(map(re.escape, _MARKS[:-1])))
_KEY_TAIL: Final = re.compile(r"[\w.-]*")
_USER_TAIL: Final = re.compile(r"@?[^\s/?#@\"'\\]*")
"""What a key, or what stands before the host of a URL, consists of; read backwards from the end of a text."""


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
        return ready if len(self._held) <= self._most() else ready + self._overflow()

    def end(self) -> str:
        """What was held back: nothing more comes."""
        return self._taken(len(self._held))

    def _most(self) -> int:
        return max(MOST_HELD, self._redactor.longest)

    def _taken(self, size: int) -> str:
        ready, self._held = self._held[:size], self._held[size:]
        return self._redacted(ready) if ready else ready

    def _redacted(self, text: str) -> str:
        data = self._redactor.redact_text(text).encode("utf-8", "surrogatepass")
        return redact_shapes(data).decode("utf-8", "surrogatepass")

    def _settled(self, place: int) -> int:
        """The last place, at most this one, where the held text can be cut."""
        while True:
            lower = self._redactor.cut(self._held, _cut(self._held, place))
            if lower == place:
                return place
            place = lower

    def _overflow(self) -> str:
        """Let go of what was held back for too long; if it is a secret, the rest of it is left out. What begins in it
        later, and may go on, is held back for a while yet."""
        held = self._held
        size = self._redactor.cut(held, len(held))
        if not held.startswith(self._redacted(held[:size])):
            self._skipped_until = _ARMOUR_END if _ARMOUR in held else _SPACE
            return self._taken(size)
        return self._taken(self._redactor.cut(held, _pending(held, len(held) - self._most())))


def _pending(text: str, since: int) -> int:
    """The first place from `since` on where something begins that goes on to the end of the text and may become the
    shape of a secret; else the end."""
    backwards = text[::-1]
    tail, user = (len(text) - len(one.match(backwards)[0]) for one in (_KEY_TAIL, _USER_TAIL))  # type: ignore[index]
    mark = _KEY_MARK.search(text, max(tail, since)) or _BEGINNING.search(text, since)
    address = user - len(_MARKS[-1])
    places = [mark.start()] if mark is not None else []
    if address >= since and text.startswith(_MARKS[-1], address):
        places.append(address)
    return min(places, default=len(text))


def _cut(text: str, place: int) -> int:
    """The last place, at most this one, that is not within what may be the shape of a secret."""
    armour = text.rfind(_ARMOUR, 0, place)
    if armour >= 0 and _ARMOUR_END.search(text, armour, place) is None:
        return armour
    beginning = _ARMOUR_BEGINNING.search(text, max(0, place - len(_ARMOUR)), place)
    if beginning is not None:
        place = beginning.start()
    words = text[:place].rsplit(None, 1)
    held = words[-1] if words and not text[place - 1].isspace() else ""
    word = place - len(held)
    return word if _MARK.search(held) or _BEGINNING.search(held) else place
