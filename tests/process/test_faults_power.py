"""A power cut on a file system that forgets what was not synced: every acknowledged step survives.

The file system is `forgetful`, over FUSE; the processes are real, and so are their files, syncs and locks.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process import short_run
from tests.process.workers import ROOT

LIMIT_S = 30.0

pytestmark = pytest.mark.time_limit(120)


class Mount:
    """The file system at `DIRECTORY/store`, in a process of its own."""

    def __init__(self, directory: Path, operation: str, number: int, survivors: str, seed: int) -> None:
        self._point = directory / "store"
        platter = directory / "platter"
        for place in (self._point, platter):
            place.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.process.forgetful", str(self._point), str(platter)),
                *(operation, str(number), survivors, str(seed)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self, word: str, or_ends: subprocess.Popen[str] | None = None) -> bool:
        """Wait until it says this; false when another process ends before."""
        assert self._process.stdout is not None
        deadline_s = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline_s:
            if select.select([self._process.stdout], [], [], 0.01)[0]:
                assert self._process.stdout.readline().strip() == word
                return True
            if or_ends is not None and or_ends.poll() is not None:
                return select.select([self._process.stdout], [], [], 0)[0] != []
        raise AssertionError(f"it did not say {word!r}")

    def close(self) -> None:
        """Unmount; what is in the kernel's caches goes with it."""
        subprocess.run(["fusermount3", "-u", "-q", str(self._point)], check=False)
        try:
            self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            subprocess.run(["fusermount3", "-u", "-z", "-q", str(self._point)], check=False)
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def mounted(
    directory: Path, operation: str = "sync", number: int = 0, survivors: str = "none", seed: int = 0
) -> Iterator[Mount]:
    """The file system, with the power going at an operation."""
    mount = Mount(directory, operation, number, survivors, seed)
    try:
        mount.says("mounted")
        yield mount
    finally:
        mount.close()


def executed_until_the_cut(directory: Path, mount: Mount, durability: str) -> bool:
    """Execute the run until the power goes; false when the run came to its end before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.process.short_run", "execute", durability, str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        return mount.says("cut", or_ends=process)
    finally:
        process.kill()
        process.communicate()


def judged(directory: Path, what: str) -> list[str]:
    """Mount what the platter holds, go on with the run, and say what is wrong."""
    with mounted(directory):
        judge = subprocess.run(
            [sys.executable, "-m", "tests.process.short_run", "judge", what, str(directory)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    if judge.returncode != 0:
        return [f"{what}: {judge.stderr[-2000:]}"]
    wrong: list[str] = json.loads(judge.stdout)
    return wrong


def power_cut(
    directory: Path, operation: str, number: int, survivors: str, durability: str = "full"
) -> list[str] | None:
    """One run with one cut; `None` when there is no such operation in it."""
    directory.mkdir()
    with mounted(directory, operation, number, survivors, seed=number) as mount:
        if not executed_until_the_cut(directory, mount, durability):
            return None
    return judged(directory, f"{operation} {number}, {survivors} survive")


def test_every_acknowledged_step_survives_a_power_cut_at_any_sync(tmp_path: Path) -> None:
    """Nothing that was not synced survives."""
    wrong: list[str] = []
    number = 1
    while (found := power_cut(tmp_path / f"sync{number}", "sync", number, "none")) is not None:
        wrong += found
        number += 1
    assert wrong == []
    assert number > 12


def test_every_acknowledged_step_survives_a_power_cut_between_writes(tmp_path: Path) -> None:
    """In the middle of a transaction, with some of its writes on the platter and some torn."""
    wrong: list[str] = []
    number = 5
    while (found := power_cut(tmp_path / f"write{number}", "write", number, "some")) is not None:
        wrong += found
        number += 13
    assert wrong == []
    assert number > 150


def test_with_durability_process_a_power_cut_takes_commits_and_leaves_a_sound_file(tmp_path: Path) -> None:
    """The file system does forget: what is promised with `full` is not to be had without syncs."""
    whole = tmp_path / "whole"
    whole.mkdir()
    with mounted(whole, "write", 10_000) as mount:
        assert not executed_until_the_cut(whole, mount, "process")
    assert len(short_run.Evidence(whole).lines("witness")) > 20

    wrong: list[str] = []
    for number in range(140, 240, 20):
        wrong += power_cut(tmp_path / f"write{number}", "write", number, "none", "process") or []
    assert any("was seen and is lost" in one for one in wrong)
    assert not any("it does not go on" in one or "Traceback" in one for one in wrong)
