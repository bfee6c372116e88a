"""Chance that a seed decides."""

from __future__ import annotations

import random
from typing import Final

from perdure.core.events import SALT_BYTES


class SeededRandomness:
    """For `Runtime(random=…)`: the same seed gives the same salts, ids and jitter.

    Each of the three is drawn from a stream of its own, so that one more salt changes no id.

    Args:
        seed: anything with a stable text.
    """

    def __init__(self, seed: object) -> None:
        self._salts: Final = random.Random(f"{seed}/salt")
        self._tokens: Final = random.Random(f"{seed}/token")
        self._numbers: Final = random.Random(f"{seed}/uniform")

    def salt(self) -> bytes:
        """See `perdure.engine.ports.Randomness.salt`."""
        return self._salts.randbytes(SALT_BYTES)

    def token(self, size: int) -> bytes:
        """See `perdure.engine.ports.Randomness.token`."""
        return self._tokens.randbytes(size)

    def uniform(self) -> float:
        """See `perdure.engine.ports.Randomness.uniform`."""
        return self._numbers.random()
