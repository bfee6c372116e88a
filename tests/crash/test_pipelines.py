"""Pipelines, killed everywhere on SQLite, end as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from perdure.testing import CrashMatrix, Outcome, crash_matrix

PIPELINES = Path(__file__).with_name("pipelines.py")

# Enough points to know that nothing was left out by accident.
LEAST = {"linear": 20, "gated": 30, "branches": 20, "race": 12, "supervised": 25}
TIMES = {"tool.duration_s", "duration_s"}


def timeless(value: Any) -> Any:
    """Without how long commands took: that is never twice the same."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def same(one: Outcome, other: Outcome) -> bool:
    """Did they end alike?"""
    return one.status == other.status and timeless(one.output) == timeless(other.output)


def same_race(one: Outcome, other: Outcome) -> bool:
    """As `same`; how far the losers came is never twice the same."""
    return one.status == other.status and best_of(one) == best_of(other)


def best_of(outcome: Outcome) -> Any:
    """Which branch won, and with what."""
    return None if outcome.output is None else outcome.output["context"]["parallel"]["fan_in"]


def kinds_called_twice(matrix: CrashMatrix) -> set[str]:
    """The kinds of the steps that some process called twice."""
    called: set[str] = set()
    for result in matrix.points:
        counts: Counter[tuple[str, str, str, str]] = Counter()
        for one in result.steps:
            counts[one.run_id, one.scope, one.key, one.kind] += one.calls
        called |= {kind for (*_, kind), times in counts.items() if times > 1}
    return called


@pytest.mark.time_limit(300)
@pytest.mark.clause("ruling-running-at-crash", "crash-matrix")
@pytest.mark.parametrize("name", LEAST)
def test_a_pipeline_that_is_killed_anywhere_ends_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    matrix = crash_matrix(
        f"{PIPELINES}:{name}", directory=tmp_path / "remains", same=same_race if name == "race" else same
    )
    matrix.assert_ok()
    assert matrix.reference.status == "completed"
    assert len(matrix.points) >= LEAST[name]
    assert "once" not in kinds_called_twice(matrix)
