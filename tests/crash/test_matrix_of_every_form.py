"""One workflow of every form, killed everywhere on SQLite, ends as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from perdure.testing import CrashMatrix, crash_matrix

WORKFLOWS = Path(__file__).with_name("workflows.py")
EXAMPLES = Path(__file__).parents[2] / "examples"

# Enough points to know that nothing was left out by accident: each commit twice, each call of a step three times.
FORMS: dict[str, tuple[dict[str, Any], int]] = {
    "order": ({"cents": 50, "seats": ["1A", "1B", "2A"]}, 50),
    "troubled": ({}, 40),
    "payment": ({"invoice": "A-17"}, 16),
    "parent": ({"signals": {"stop": "enough"}}, 50),
    "rounds": ({}, 24),
    "blocking": ({"name": "Ada"}, 20),
    "side_by_side": ({}, 36),
    "large": ({}, 14),
    "loop": ({"rounds": 2}, 40),
    "trip": ({"days": 2}, 30),
}


def sites_of(matrix: CrashMatrix) -> set[tuple[str, str]]:
    return {(result.point.site, result.point.moment) for result in matrix.points if result.reached}


@pytest.mark.parametrize("name", FORMS)
def test_a_workflow_that_is_killed_anywhere_ends_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    options, least = FORMS[name]
    matrix = crash_matrix(f"{WORKFLOWS}:{name}", directory=tmp_path / "remains", **options)
    matrix.assert_ok()
    assert matrix.reference.status == "completed"
    assert len(matrix.points) >= least
    assert sum(result.reached for result in matrix.points) >= 0.9 * len(matrix.points)
    assert {("commit", "before"), ("commit", "after"), ("step", "before"), ("step", "middle"), ("step", "after")} <= (
        sites_of(matrix)
    )


@pytest.mark.parametrize("name", ["order", "parent", "trip"])
def test_a_workflow_that_is_killed_three_times_ends_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    options, _ = FORMS[name]
    matrix = crash_matrix(
        f"{WORKFLOWS}:{name}", crashes=3, sample=15, seed=3, directory=tmp_path / "remains", **options
    )
    matrix.assert_ok()


def test_a_crash_takes_nothing_from_a_store_that_syncs(tmp_path: Path) -> None:
    matrix = crash_matrix(
        f"{WORKFLOWS}:payment", invoice="B-2", durability="full", directory=tmp_path / "remains", sample=8
    )
    matrix.assert_ok()


# --- the example of the README ----------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small git repository with a tag and two commits behind it."""
    folder = tmp_path / "repository"
    folder.mkdir()

    def git(*arguments: str) -> None:
        name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "--initial-branch=main")
    for number, subject in enumerate(["Begin", "Add a door", "Fix the window"]):
        (folder / f"file{number}.py").write_text(f"print({number})\n")
        git("add", ".")
        git("commit", "-m", subject)
        if number == 0:
            git("tag", "v1.0.0")
    return folder


def copy_repository() -> None:
    """Give each crash point a repository of its own."""
    if not Path(".git").exists():
        shutil.copytree(os.environ["REPOSITORY_TO_COPY"], ".", dirs_exist_ok=True)


@pytest.mark.time_limit(120)
def test_the_release_notes_survive_every_crash(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPOSITORY_TO_COPY", str(repository))
    matrix = crash_matrix(
        f"{EXAMPLES / 'release_notes.py'}:release_notes",
        answers={"Write RELEASE_NOTES.md (2 commits since v1.0.0)?": "write it"},
        setup=f"{__file__}:copy_repository",
        directory=tmp_path / "remains",
    )
    matrix.assert_ok()
    assert matrix.reference.output["written"]["file"] == "RELEASE_NOTES.md"
    assert {step.kind for step in matrix.steps} == {"read", "pure", "once"}
