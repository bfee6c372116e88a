"""Several processes on one SQLite file."""

from __future__ import annotations

import asyncio
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.core.errors import FencedError, HeadMovedError
from perdure.core.events import Head
from perdure.journal.chain import check
from perdure.store.port import Appended, Store
from perdure.store.sqlite import SQLiteStore
from perdure.testing.store_contract.base import WORKFLOW, command, commit, draft, execution, refused, start, written

PRELUDE = """
import asyncio, sys
from perdure.core.errors import HeadMovedError
from perdure.store.port import Appended
from perdure.store.sqlite import SQLiteStore
from perdure.testing.store_contract.base import WORKFLOW, command, commit, draft, start
def say(*words):
    print(*words, flush=True)
async def main():
    store = SQLiteStore(sys.argv[1], durability=sys.argv[2])
    await store.open()
"""


@contextmanager
def process(body: str, path: Path, *arguments: str, durability: str = "process") -> Iterator[subprocess.Popen[str]]:
    """Another process with an open store; `body` is the rest of its `main`. It is killed at the end."""
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    program = f"{PRELUDE}{indented}\nasyncio.run(main())\n"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path), durability, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


async def opened(path: Path) -> SQLiteStore:
    store = SQLiteStore(path, durability="process")
    await store.open()
    return store


OWN = """
lease = await store.lease("w1", [WORKFLOW], length_s=3600.0)
(claimed,) = await store.claim(lease, [WORKFLOW], 0)
say("owns", claimed.row.run_id)
sys.stdin.readline()
"""


async def test_the_runs_of_a_killed_process_are_free_at_once(store_path: Path) -> None:
    """Its lease would last an hour; the kernel says that it is dead."""
    store = await opened(store_path)
    head = await start(store, "a")
    heir = await store.lease("w2", [WORKFLOW])
    with process(OWN, store_path) as child:
        assert line(child) == "owns a"
        assert await store.claim(heir, [WORKFLOW], 0) == []
        assert await store.claim_run(heir, "a") is None
        child.kill()
        child.wait()
        (claimed,) = await store.claim(heir, [WORKFLOW], 0)
    assert (claimed.row.epoch, claimed.orphaned, claimed.drained, claimed.prior_worker) == (2, True, False, "w1")
    assert claimed.lease_lost_ms == 0
    await written(store, execution(claimed, head))
    assert [worker.worker_id for worker in await store.workers()] == ["w2"]
    assert [lock.name for lock in Path(f"{store_path}.workers").iterdir()] == ["w2.lock"]
    await store.close()


async def test_a_stopped_process_keeps_its_runs_while_its_lease_lasts(store_path: Path) -> None:
    """It holds its lock and may go on; who steals the run is told how long."""
    store = await opened(store_path)
    await start(store, "a")
    heir = await store.lease("w2", [WORKFLOW])
    with process(OWN, store_path) as child:
        assert line(child) == "owns a"
        child.send_signal(signal.SIGSTOP)
        assert await store.claim(heir, [WORKFLOW], 0) == []
        claimed = await store.claim_run(heir, "a", steal=True)
    assert claimed is not None
    assert (claimed.orphaned, claimed.prior_worker) == (False, "w1")
    assert 3_000_000 < claimed.lease_lost_ms <= 3_600_000
    await store.close()


async def test_a_process_that_lost_its_run_is_fenced(store_path: Path) -> None:
    store = await opened(store_path)
    head = await start(store, "a")
    mine = await store.claim_run(await store.lease("w2", [WORKFLOW]), "a")
    assert mine is not None
    body = """
lease = await store.lease("w1", [WORKFLOW])
claimed = await store.claim_run(lease, "a", steal=True)
say("stolen", claimed.row.epoch)
sys.stdin.readline()
"""
    with process(body, store_path) as child:
        assert line(child) == "stolen 2"
        await refused(store, execution(mine, head), FencedError)
    await store.close()


async def test_changes_of_another_process_are_heard_of(store_path: Path) -> None:
    store = await opened(store_path)
    position, _ = await store.changed_runs(after=0)
    body = """
for name in sys.stdin:
    await start(store, name.strip())
    say("done")
"""
    with process(body, store_path) as child:
        assert child.stdin is not None
        for name in ("a", "b"):
            child.stdin.write(f"{name}\n")
            child.stdin.flush()
            assert line(child) == "done"
            position, changed = await store.changed_runs(after=position)
            assert changed == {name: 1}
            assert await store.changed_runs(after=position) == (position, {})
    await store.close()


APPEND_AT_THE_HEAD = """
for _ in range(100):
    while True:
        (outcome,) = await commit(store, command("a", await store.head("a"), draft(key=sys.argv[3])))
        if isinstance(outcome, Appended):
            break
        assert isinstance(outcome, HeadMovedError), outcome
say("done")
"""


async def test_commands_of_many_processes_make_one_chain(store_path: Path) -> None:
    """Each is appended at the head once; who comes too late reads the head and tries again."""
    store = await opened(store_path)
    await start(store, "a")
    with (
        process(APPEND_AT_THE_HEAD, store_path, "one") as one,
        process(APPEND_AT_THE_HEAD, store_path, "two") as two,
    ):
        assert [line(one), line(two)] == ["done", "done"]
    events = await store.read("a")
    check("a", events)
    keys = [event.key for event in events[1:]]
    assert (keys.count("one"), keys.count("two")) == (100, 100)
    assert await store.integrity() == []
    await store.close()


BUSY = """
head = await start(store, "busy")
say("busy")
while True:
    (outcome,) = await commit(store, command("busy", head))
    head = outcome.head
"""


async def test_a_busy_process_does_not_starve_a_quiet_one(store_path: Path) -> None:
    """One writes as fast as it can; the other one's commit waits for few of its turns.

    Without the gate a commit here waits for thousands of them.
    """
    store = await opened(store_path)
    head = await start(store, "quiet")
    turns = []
    with process(BUSY, store_path) as child:
        assert line(child) == "busy"
        for _ in range(100):
            before = await store.feed_position()
            head = await written(store, command("quiet", head))
            turns.append(await store.feed_position() - before)
            await asyncio.sleep(0.001)
        assert child.poll() is None
    assert statistics.median(turns) <= 100, turns
    assert max(turns) <= 3000, turns
    assert len(await store.read("busy")) > 100
    await store.close()


ACKNOWLEDGE = """
head = await store.head("a")
while True:
    (outcome,) = await commit(store, command("a", head, draft(), draft()), in_place=sys.argv[3] == "here")
    head = outcome.head
    say(head.seq, head.hash.hex())
"""


@pytest.mark.parametrize("where", ["here", "later"])
@pytest.mark.parametrize("durability", ["full", "process"])
async def test_what_was_acknowledged_survives_a_kill(store_path: Path, durability: str, where: str) -> None:
    """Time and again on one file, at no particular moment: nothing is lost, nothing is half done."""
    store = await opened(store_path)
    await start(store, "a")
    for moment in (1, 7, 40, 173):
        seq, digest = "0", ""
        with process(ACKNOWLEDGE, store_path, where, durability=durability) as child:
            for _ in range(moment):
                seq, digest = line(child).split()
            child.kill()
            rest = child.stdout.read() if child.stdout is not None else ""
        complete = [words for words in (text.split() for text in rest.splitlines(keepends=False)) if len(words) == 2]
        if complete and len(complete[-1][1]) == 64:
            seq, digest = complete[-1]
        events = await store.read("a")
        head = check("a", events)
        assert head.seq >= int(seq)
        assert head.seq % 2 == 1, "an append of two events is there in half"
        assert check("a", events[: int(seq)]) == Head(int(seq), bytes.fromhex(digest))
        await _goes_on(store, head)
    assert await store.integrity() == []
    await store.close()


async def _goes_on(store: Store, head: Head) -> None:
    (outcome,) = await commit(store, command("a", head, draft(), draft()))
    assert isinstance(outcome, Appended)
    await refused(store, command("a", head), HeadMovedError)
