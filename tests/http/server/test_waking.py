"""Waking: a few readers at once, very many with a rest between, and never one forgotten."""

from __future__ import annotations

import asyncio

from perdure.server.following.waking import FEW, REST_S, Waking


async def test_few_readers_are_woken_for_each_piece_of_news() -> None:
    waking = Waking(lambda: FEW)
    for _ in range(3):
        moved = waking.moved
        waking.news()
        assert moved.is_set()
        assert not waking.moved.is_set()


async def test_very_many_are_left_alone_for_a_while_and_then_woken_for_all_that_came() -> None:
    loop, readers = asyncio.get_running_loop(), 500
    waking = Waking(lambda: readers)
    first = waking.moved
    waking.news()
    woken_s = loop.time()
    assert first.is_set(), "the first news has nothing to wait for"
    second = waking.moved
    for _ in range(10):
        waking.news()
    assert not second.is_set()
    await second.wait()
    assert loop.time() - woken_s >= readers * REST_S - 0.001
    assert not waking.moved.is_set()


async def test_what_cannot_wait_wakes_at_once() -> None:
    waking = Waking(lambda: 500)
    waking.news()
    moved = waking.moved
    waking.news()
    waking.now()
    assert moved.is_set()


async def test_nobody_is_woken_when_all_have_left() -> None:
    waking = Waking(lambda: 100)
    waking.news()
    moved = waking.moved
    waking.news()
    waking.stop()
    await asyncio.sleep(100 * REST_S + 0.01)
    assert not moved.is_set()
