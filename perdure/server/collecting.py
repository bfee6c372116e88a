"""How often Python looks for garbage in a process that serves."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (10_000, 10, 10)


def collect_rarely() -> None:
    """Leave what was loaded up to now out of every later search for garbage, and search less often.

    Each waiting run that is kept in memory is a hundred objects that the search goes through again and again, and the
    modules of the service are many thousand: a search stopped all requests for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
