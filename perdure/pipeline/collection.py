"""Garbage collection, while very many objects are made of which none is garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection(*, when: bool = True) -> Iterator[None]:
    """Let the cycle collector rest: on a large file it costs as much as reading does, and finds nothing.

    Args:
        when: whether it is worth it.
    """
    if not when or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
