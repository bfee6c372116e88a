"""How many requests a key may send: a bucket of tokens for each key, filled again as time goes by."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from perdure.core.errors import InputError

UNITS_S: Final = {"s": 1, "m": 60, "h": 3600}
_TEXT: Final = re.compile(r"([1-9][0-9]{0,8})/([smh])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so long a time; as many may come at once.

    Args:
        number: of requests.
        unit: `s`, `m` or `h`: a second, a minute, an hour.
    """

    number: int
    unit: str = "s"

    def __str__(self) -> str:
        return f"{self.number}/{self.unit}"

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return self.number / UNITS_S[self.unit]

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read a rate such as `10/s`, `600/m` or `1000/h`.

        Raises:
            InputError: it is none.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InputError(
                f"{text[:40]!r} is no rate", hint="write requests and a unit: 10/s, 600/m or 1000/h", field="rate"
            )
        return cls(int(match[1]), match[2])


class Buckets:
    """What each key has left.

    Args:
        now_s: a clock that never goes backwards, in seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, key: str, rate: Rate) -> float:
        """Take one token of a key's bucket.

        Args:
            key: its name.
            rate: at which its bucket is filled.

        Returns:
            0 if there was one; else after how many seconds there is one again.
        """
        now_s = self._now_s()
        left, since_s = self._left.get(key, (float(rate.number), now_s))
        left = min(float(rate.number), left + (now_s - since_s) * rate.per_s)
        if left < 1:
            self._left[key] = (left, now_s)
            return (1 - left) / rate.per_s
        self._left[key] = (left - 1, now_s)
        return 0.0
