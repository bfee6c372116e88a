"""How often a stage is executed, and how long between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from perdure.core.policies import Backoff


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a stage is executed, and how long between.

    Args:
        attempts: executions in all, at least 1.
        backoff: the delay between them: `min(initial · factor^(n−1), 60 s) · U(0.5, 1.5)`.
    """

    attempts: int = 1
    backoff: Backoff = Backoff()

    def of_node(self, max_retries: int | None) -> RetryPolicy:
        """The policy of a node that says how often it is repeated, or does not."""
        return self if max_retries is None else replace(self, attempts=max_retries + 1)


RETRY_PRESETS: Final[Mapping[str, RetryPolicy]] = MappingProxyType(
    {
        "none": RetryPolicy(),
        "standard": RetryPolicy(5, Backoff(0.2, 2.0)),
        "aggressive": RetryPolicy(5, Backoff(0.5, 2.0)),
        "linear": RetryPolicy(3, Backoff(0.5, 1.0)),
        "patient": RetryPolicy(3, Backoff(2.0, 3.0)),
    }
)
"""Policies by name, for `Pipeline(retry=...)`."""
