"""What it takes to test a workflow: killing it everywhere, virtual time, seeded interleavings, stores that fail.

    from perdure.testing import VirtualClock, crash_matrix

Each name is loaded at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.testing.clock import VirtualClock as VirtualClock
    from perdure.testing.crash.matrix import CrashMatrix as CrashMatrix
    from perdure.testing.crash.matrix import PointResult as PointResult
    from perdure.testing.crash.matrix import crash_matrix as crash_matrix
    from perdure.testing.crash.people import Doubt as Doubt
    from perdure.testing.crash.points import CrashPoint as CrashPoint
    from perdure.testing.crash.verdict import Outcome as Outcome
    from perdure.testing.crash.witness import record_effect as record_effect
    from perdure.testing.faults import FaultyStore as FaultyStore
    from perdure.testing.faults import random_faults as random_faults
    from perdure.testing.loop import SimulationLoop as SimulationLoop
    from perdure.testing.randomness import SeededRandomness as SeededRandomness
    from perdure.testing.simulation import ProcessDied as ProcessDied
    from perdure.testing.simulation import Simulation as Simulation
    from perdure.testing.simulation import simulate as simulate
    from perdure.testing.store_contract import StoreContract as StoreContract

_HOMES = {
    "perdure.testing.clock": ("VirtualClock",),
    "perdure.testing.crash.matrix": ("CrashMatrix", "PointResult", "crash_matrix"),
    "perdure.testing.crash.people": ("Doubt",),
    "perdure.testing.crash.points": ("CrashPoint",),
    "perdure.testing.crash.verdict": ("Outcome",),
    "perdure.testing.crash.witness": ("record_effect",),
    "perdure.testing.faults": ("FaultyStore", "random_faults"),
    "perdure.testing.loop": ("SimulationLoop",),
    "perdure.testing.randomness": ("SeededRandomness",),
    "perdure.testing.simulation": ("ProcessDied", "Simulation", "simulate"),
    "perdure.testing.store_contract": ("StoreContract",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'perdure.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names."""
    return __all__
