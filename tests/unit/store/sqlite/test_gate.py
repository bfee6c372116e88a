"""Fair turns, within a process and between processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.core.errors import StoreBusyError
from perdure.store.sqlite.gate import Gate

HOLD = """
import sys
from perdure.store.sqlite.gate import Gate
gate = Gate(sys.argv[1])
gate.take(10)
print("holding", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "runs.db")


@pytest.fixture
def gate(path: str) -> Iterator[Gate]:
    gate = Gate(path)
    yield gate
    gate.close()


@pytest.fixture
def other(path: str) -> Iterator[Gate]:
    """Another process's gate: its locks belong to other descriptors, as those of a process do."""
    gate = Gate(path)
    yield gate
    gate.close()


def until(condition: object, what: str) -> None:
    """Wait for another thread to get to a point that it cannot announce."""
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


def test_a_free_turn_is_taken_at_once(gate: Gate) -> None:
    assert gate.try_take()
    assert not gate.try_take()
    gate.give_back()
    assert gate.try_take()
    gate.give_back()


def test_one_process_has_the_turn(gate: Gate, other: Gate) -> None:
    assert gate.try_take()
    assert not other.try_take()
    gate.give_back()
    assert other.try_take()
    assert not gate.try_take()
    other.give_back()


def test_who_waits_is_next(gate: Gate, other: Gate) -> None:
    """While another stands in the gate, the one that has the turn cannot take it twice in a row."""
    assert gate.try_take()
    order: list[str] = []

    def quiet() -> None:
        other.take(10)
        order.append("quiet")
        other.give_back()

    thread = threading.Thread(target=quiet)
    thread.start()
    until(lambda: other._queue.standing, "the other stands in the queue")
    until(lambda: not _gate_is_free(gate), "the other holds the gate")
    gate.give_back()
    # The busy one asks again at once, as fast as it can.
    gate.take(10)
    order.append("busy")
    gate.give_back()
    thread.join()
    assert order == ["quiet", "busy"]


def _gate_is_free(gate: Gate) -> bool:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

    try:
        flock(gate._gate, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    flock(gate._gate, LOCK_UN)
    return True


def test_waiting_is_bounded(gate: Gate, other: Gate) -> None:
    assert gate.try_take()
    started = time.monotonic()
    with pytest.raises(StoreBusyError) as caught:
        other.take(0.05)
    assert 0.04 < time.monotonic() - started < 5
    assert caught.value.retryable
    gate.give_back()


def test_a_turn_that_comes_too_late_is_let_go(gate: Gate, other: Gate) -> None:
    """Whoever gave up waiting does not hold up the others when its turn comes."""
    assert gate.try_take()
    with pytest.raises(StoreBusyError):
        other.take(0.01)
    assert not other.try_take()
    gate.give_back()
    until(lambda: not other._queue.standing, "the late turn is let go")
    gate.take(10)
    gate.give_back()
    other.take(10)
    other.give_back()


def test_a_second_wait_uses_the_place_of_the_first(gate: Gate, other: Gate) -> None:
    assert gate.try_take()
    with pytest.raises(StoreBusyError):
        other.take(0.01)
    timer = threading.Timer(0.02, gate.give_back)
    timer.start()
    other.take(10)
    assert not gate.try_take()
    other.give_back()
    timer.join()


def test_threads_of_a_process_wait_for_each_other(gate: Gate) -> None:
    assert gate.try_take()
    with pytest.raises(StoreBusyError):
        gate.take(0.01)
    gate.give_back()
    with gate.turn(1):
        assert not gate.try_take()
    assert gate.try_take()
    gate.give_back()


def test_in_place_commits_stand_behind_a_thread_that_waits(gate: Gate) -> None:
    """Else a busy event loop could keep the heartbeat from ever writing."""
    assert gate.try_take()
    had = threading.Event()

    def heartbeat() -> None:
        with gate.turn(10):
            had.set()

    thread = threading.Thread(target=heartbeat)
    thread.start()
    until(lambda: gate._asking, "the thread asks")
    gate.give_back()
    tries = 0
    while not gate.try_take():
        tries += 1
    assert had.is_set()
    gate.give_back()
    thread.join()


def test_the_turn_of_a_process_dies_with_it(path: str, gate: Gate) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        assert not gate.try_take()
        process.kill()
        gate.take(10)
        gate.give_back()


def test_closing_while_standing_in_the_queue_leaves_no_lock(gate: Gate, path: str) -> None:
    leaving = Gate(path)
    assert gate.try_take()
    with pytest.raises(StoreBusyError):
        leaving.take(0.01)
    leaving.close()
    gate.give_back()
    gate.take(10)
    gate.give_back()
