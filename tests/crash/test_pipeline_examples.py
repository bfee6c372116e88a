"""The example pipelines, as they are on disk, killed everywhere on SQLite, end as if nothing had happened.

No point is left out. Beside those of every matrix, a process is killed while each command runs, see `run_witnessed`.
Every point has a world of its own, a copy of the folder that the example works in, which is looked at in the end.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from perdure.testing import CrashMatrix, Outcome, PointResult, crash_matrix
from tests.crash.example_pipelines import EXAMPLES, PROJECT, WORLDS, enter_world, look_what_happened
from tests.crash.test_pipelines import timeless
from tests.process.test_examples import git

PIPELINES = Path(__file__).with_name("example_pipelines.py")
SAMPLE = EXAMPLES / "sample_project"
ANSWERS = {"The checks are done. What now?": "A", "All checks passed. Release?": "Y"}
IGNORED = shutil.ignore_patterns("__pycache__", ".perdure", "dist")


# --- the world that an example works in, and what it leaves there -----------------------------------------------------


def project_of(path: Path) -> None:
    """The sample project."""
    shutil.copytree(SAMPLE, path, ignore=IGNORED)


def repository_of(path: Path) -> None:
    """The sample project, all of it committed."""
    project_of(path)
    git(path, "init", "--quiet", "--initial-branch=main", "--template=")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "-m", "The first one")


def two_files(path: Path) -> None:
    """Two files are enough for the checksums: each takes a while."""
    path.mkdir()
    for name in ("CHANGELOG.md", "VERSION"):
        shutil.copy(SAMPLE / name, path)


def one_report(world: Path) -> None:
    lines = (world / "quality_report.md").read_text().splitlines()
    assert lines[0].endswith(", run crash-matrix")
    assert lines[1:] == ["- passed: leftovers", "- passed: syntax", "- passed: tests"]


def one_release(world: Path) -> None:
    (line,) = (world / "dist" / "releases.txt").read_text().splitlines()
    assert line.startswith("0.2.0 ")
    text = (world / "dist" / "release-0.2.0.md").read_text()
    assert text.startswith("# Release 0.2.0\n")
    assert text.endswith(", The first one\n")


def a_checksum_for_each(world: Path) -> None:
    (sums,) = (world / ".perdure" / "checksums").iterdir()
    expected = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.name}" for path in files_in(world)]
    assert sorted(sums.read_text().splitlines()) == sorted(expected)


def files_in(world: Path) -> list[Path]:
    return [path for path in world.iterdir() if path.is_file()]


def nothing(world: Path) -> None:
    assert files_in(world) == []


Calls = dict[tuple[str, str, str, str], int]
"""How often a step was called, by run, scope, key and kind."""


class Example(NamedTuple):
    """An example, and what is known of it.

    Args:
        project: makes the folder that it works in.
        left: asserts that it has left there what it leaves when nothing crashes.
        effects: how many commands it runs, or requests it makes, of each kind.
        least: enough points to know that nothing was left out by accident.
    """

    project: Callable[[Path], None]
    left: Callable[[Path], None]
    effects: dict[str, int]
    least: int


KNOWN = {
    "quality_gate": Example(project_of, one_report, {"read": 4, "once": 1}, 40),
    "release": Example(repository_of, one_release, {"read": 4, "once": 1}, 40),
    "supervised": Example(two_files, a_checksum_for_each, {"idempotent": 4}, 36),
    "draft_review": Example(Path.mkdir, nothing, {"read": 5}, 48),
}


# --- the matrix -------------------------------------------------------------------------------------------------------


def same(one: Outcome, other: Outcome) -> bool:
    """Did they end alike? A command of which a person says that it was done has no output to compare."""
    return one.status == other.status and without_tool(one.output) == without_tool(other.output)


def without_tool(output: Any) -> Any:
    if output is None:
        return None  # it did not complete
    context = {name: value for name, value in output["context"].items() if name != "tool"}
    return timeless({**output, "context": context})


def calls_of(result: CrashMatrix | PointResult) -> Calls:
    return {(one.run_id, one.scope, one.key, one.kind): one.calls for one in result.steps}


def strange_calls(calls: Calls, undisturbed: Calls) -> list[str]:
    """What a single crash does not explain. That a second call was due, and its key the same, the matrix has judged.

    A repeated `take` finds the checksum of its file, and takes the next one: then a visit less is needed.
    """
    repeated = {place for place, times in calls.items() if times == 2}
    missing = undisturbed.keys() - calls.keys()
    strange = [f"{place} was called {times} times" for place, times in calls.items() if times not in (1, 2)]
    strange += [f"{place} is called only after a crash" for place in calls.keys() - undisturbed.keys()]
    if len(missing) > len([place for place in repeated if place[-1] == "idempotent"]):
        strange += [f"{place} was never called" for place in missing]
    return strange


def test_every_example_is_here() -> None:
    """A child is killed with its supervisor."""
    assert {path.stem for path in EXAMPLES.glob("*.dot")} == KNOWN.keys() | {"supervised_child"}


@pytest.mark.time_limit(300)
@pytest.mark.clause("ruling-running-at-crash", "crash-matrix")
@pytest.mark.parametrize("name", KNOWN)
def test_an_example_that_is_killed_anywhere_ends_as_if_nothing_had_happened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example, project, worlds = KNOWN[name], tmp_path / "project", tmp_path / "worlds"
    example.project(project)
    monkeypatch.setenv(PROJECT, str(project))
    monkeypatch.setenv(WORLDS, str(worlds))
    matrix = crash_matrix(
        f"{PIPELINES}:{name}",
        answers=ANSWERS,
        respond=look_what_happened,
        setup=enter_world,
        same=same,
        directory=tmp_path / "remains",
    )
    matrix.assert_ok()
    assert matrix.reference.status == "completed"
    assert len(matrix.points) >= example.least
    undisturbed = calls_of(matrix)
    assert Counter(one.kind for one in matrix.steps for _ in range(one.effects)) == example.effects
    assert set(undisturbed.values()) == {1}
    for result in matrix.points:
        assert strange_calls(calls_of(result), undisturbed) == [], result.point
    found = list(worlds.iterdir())
    assert len(found) == len(matrix.points) + 1
    for world in found:
        example.left(world)
