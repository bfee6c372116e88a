"""Killing a workflow everywhere, and seeing it end as if nothing had happened."""

from perdure.testing.crash.matrix import CrashMatrix, PointResult, crash_matrix
from perdure.testing.crash.people import Doubt
from perdure.testing.crash.points import CrashPoint
from perdure.testing.crash.verdict import Outcome, StepCount
from perdure.testing.crash.witness import record_effect

__all__ = [
    "CrashMatrix",
    "CrashPoint",
    "Doubt",
    "Outcome",
    "PointResult",
    "StepCount",
    "crash_matrix",
    "record_effect",
]
