"""Every example runs as its docstring says, in processes of its own, on a real store."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SMALL = {"approval", "children", "flow_cycle", "hello", "plan_fan_out", "question", "timer", "wait_for_signal"}
PERDURE = [sys.executable, "-c", "from perdure.cli import main; main()"]
COMPLETED, FAILED, NEEDS_ANSWER = 0, 1, 3

Perdure = Callable[..., "subprocess.CompletedProcess[str]"]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def perdure(tmp_path: Path) -> Perdure:
    """The command line, in a folder of its own: `perdure("run", "hello.py", …)`."""

    def call(*arguments: str, exit_code: int = COMPLETED) -> subprocess.CompletedProcess[str]:
        words = [str(EXAMPLES / word) if word.partition(":")[0].endswith(".py") else word for word in arguments]
        done = subprocess.run(
            [*PERDURE, *words],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == exit_code, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return call


def output_of(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


# --- the small ones ---------------------------------------------------------------------------------------------------


def test_every_example_is_small_and_says_how_to_run_it() -> None:
    found = {path.stem for path in EXAMPLES.glob("*.py")}
    assert found == SMALL | {"release_notes", "crash_demo"}
    for name in SMALL:
        text = (EXAMPLES / f"{name}.py").read_text()
        assert len(text.splitlines()) < 80, name
        assert f"\n    perdure run examples/{name}.py" in (ast.get_docstring(ast.parse(text), clean=False) or ""), name
    assert "examples/release_notes.py --input repo=." in (EXAMPLES / "release_notes.py").read_text()


def test_no_example_hides_a_module_of_the_standard_library() -> None:
    """The folder of a file that is loaded goes to the front of `sys.path`."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} & set(sys.stdlib_module_names) == set()


def test_hello(perdure: Perdure) -> None:
    told = perdure("run", "hello.py", "--input", "name=Ada").stdout
    assert "Ada. This is Perdure on" in told


def test_question_takes_its_defaults_without_a_terminal(perdure: Perdure) -> None:
    done = perdure("run", "question.py", "--input", "guest=Grace", "--json")
    assert json.loads(done.stdout)["output"] == {
        "guest": "Grace",
        "day": "Friday",
        "dishes": ["soup", "bread"],
        "music": True,
        "toast": "To Grace!",
    }


def test_question_is_answered_from_other_processes(perdure: Perdure) -> None:
    perdure("run", "question.py", "--input", "guest=Ada", "--id", "dinner", "--detach")
    for answer in ("Saturday", "soup,cake", "no", "To crashes!"):
        perdure("worker", "question.py", "--once")
        assert "dinner" in perdure("questions").stdout
        perdure("answer", "dinner", answer)
    perdure("worker", "question.py", "--once")
    done = perdure("run", "question.py", "--id", "dinner", "--json")
    assert json.loads(done.stdout)["output"] == {
        "guest": "Ada",
        "day": "Saturday",
        "dishes": ["soup", "cake"],
        "music": False,
        "toast": "To crashes!",
    }


def test_timer(perdure: Perdure) -> None:
    woken = output_of(perdure("run", "timer.py", "--input", "pause=100ms", "--input", "times=3"))
    assert len(woken) == 3
    assert woken[0] >= 0.1
    assert woken[2] >= 0.3


def test_a_signal_that_came_early_is_kept(perdure: Perdure) -> None:
    perdure("run", "wait_for_signal.py", "--id", "order-7", "--input", "order=7", "--detach")
    perdure("signal", "order-7", "payment", "--match", "8", "--payload", '{"amount_cents": 1, "method": "wrong"}')
    perdure("signal", "order-7", "payment", "--match", "7", "--payload", '{"amount_cents": 1250, "method": "card"}')
    perdure("worker", "wait_for_signal.py", "--once")
    assert "order 7: 12.50 by card" in perdure("show", "order-7").stdout


def test_a_signal_that_never_comes(perdure: Perdure) -> None:
    told = perdure("run", "wait_for_signal.py", "--input", "patience=100ms").stdout
    assert "order 7: not paid within 100ms" in told


def test_children(perdure: Perdure) -> None:
    books = '{"Dune": 3, "Emma": 2, "Blank": 0}'
    read = output_of(perdure("run", "children.py:library", "--input", f"books={books}"))
    assert {title: len(found) for title, found in read.items() if isinstance(found, list)} == {"Dune": 3, "Emma": 2}
    assert read["Blank"].startswith("not read (ValueError: ")
    runs = [json.loads(line) for line in perdure("ps", "--all", "--json").stdout.splitlines()]
    assert sorted(run["workflow"] for run in runs) == ["book"] * 3 + ["chapter"] * 5 + ["library"]


def test_flow_with_a_cycle(perdure: Perdure) -> None:
    text = "It is, well, simply very nice indeed"
    told = perdure("run", "flow_cycle.py", "--input", f"text={text}", "--input", "words=4").stdout
    assert "It is, nice indeed" in told
    refused = perdure("run", "flow_cycle.py", "--input", "text=x", "--input", "words=0", exit_code=FAILED)
    assert "a text has at least one word" in refused.stderr


def test_plan_with_fan_out(perdure: Perdure) -> None:
    told = perdure("run", "plan_fan_out.py", "--input", f"folder={EXAMPLES}").stdout
    assert f"largest: {EXAMPLES / 'release_notes.py'}" in told
    told = perdure("run", "plan_fan_out.py", "--input", f"folder={EXAMPLES}", "--skip-tag", "slow").stdout
    assert "largest: not looked for" in told


def test_approval_waits_for_a_person(perdure: Perdure, tmp_path: Path) -> None:
    inputs = ["--input", "invoice=A-17", "--input", "cents=4200"]
    perdure("run", "approval.py", *inputs, "--id", "pay", exit_code=NEEDS_ANSWER)
    refused = perdure("answer", "pay", "perhaps", exit_code=2)
    assert "answer_refused" in refused.stderr
    perdure("answer", "pay", "approve")
    for _ in range(2):  # the second time it has ended: the recorded outcome, and nothing done again
        assert "A-17 paid: transfer 1" in perdure("run", "approval.py", "--id", "pay").stdout
    assert len((tmp_path / ".perdure/bank.txt").read_text().splitlines()) == 1


@pytest.mark.parametrize("paid", [True, False], ids=["it-was-paid", "it-was-not"])
def test_approval_killed_in_the_middle_of_the_payment(perdure: Perdure, tmp_path: Path, paid: bool) -> None:
    """The bank's book is a pipe that nobody reads, so the payment stands still until its worker is killed."""
    bank = tmp_path / "bank.txt"
    os.mkfifo(bank)
    inputs = ["--input", "invoice=A-17", "--input", "cents=4200", "--input", "bank=bank.txt"]
    perdure("run", "approval.py", *inputs, "--id", "pay", "--detach")
    worker = subprocess.Popen(
        [*PERDURE, "run", str(EXAMPLES / "approval.py"), "--id", "pay", "--answer", "approve", "--quiet"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )
    try:
        follow_until(tmp_path, "pay", "step.intended")
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    bank.unlink()
    bank.write_text("A-17 4200 key\n" if paid else "")
    assert "A-17 paid: transfer 1" in perdure("run", "approval.py", "--id", "pay").stdout
    assert len(bank.read_text().splitlines()) == 1
    events = [json.loads(line) for line in perdure("events", "pay", "--json").stdout.splitlines()]
    kinds = [event["kind"] for event in events]
    assert kinds.count("step.doubted") == 1
    assert kinds.count("step.intended") == (1 if paid else 2)
    settled = next(event["payload"] for event in events if event["kind"] == "step.completed")
    assert ("duration_ms" in settled) is not paid  # nobody knows how long a call took whose answer was lost


def follow_until(folder: Path, run_id: str, kind: str) -> None:
    """Follow a run's journal until an event of this kind is committed."""
    command = [*PERDURE, "events", run_id, "--follow", "--json"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        try:
            for line in follower.stdout:
                if json.loads(line)["kind"] == kind:
                    return
        finally:
            follower.kill()
    pytest.fail(f"run {run_id} ended without {kind}")


# --- release notes ----------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def repository(folder: Path, subjects: list[str]) -> Path:
    """A repository with a commit for each subject; one that is `tag NAME` is a tag instead."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / ".gitignore").write_text("RELEASE_NOTES.md\n.perdure/\n")
    for number, subject in enumerate(subjects):
        if subject.startswith("tag "):
            git(folder, "tag", "-a", "-m", subject, subject.removeprefix("tag "))
            continue
        place = folder / f"part{number % 2}" / f"file{number}.txt"
        place.parent.mkdir(exist_ok=True)
        place.write_text("line\n" * (number + 1))
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", subject)
    return folder


def test_release_notes_since_the_newest_tag(perdure: Perdure, tmp_path: Path) -> None:
    subjects = ["Add a door", "tag v1", "feat: add a window", "Fix the roof", "Paint it", "docs: say how"]
    repo = repository(tmp_path / "repo", subjects)
    done = perdure("run", "release_notes.py", "--input", f"repo={repo}", "--id", "notes", "--json")
    output = json.loads(done.stdout)["output"]
    notes = (repo / "RELEASE_NOTES.md").read_text()
    assert (output["commits"], output["since"], output["written"]["size"]) == (4, "v1", len(notes.encode()))
    for line in ("## Added", "- add a window (", "## Fixed", "- Fix the roof (", "## Changed", "- Paint it ("):
        assert line in notes
    assert "door" not in notes
    assert git(repo, "status", "--porcelain") == ""
    perdure("verify", "notes")


def test_release_notes_since_a_revision(perdure: Perdure, tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo", ["One", "Two", "Three"])
    perdure("run", "release_notes.py", "--input", f"repo={repo}", "--input", "since=HEAD~1")
    notes = (repo / "RELEASE_NOTES.md").read_text()
    assert "Three" in notes
    assert "Two" not in notes


def test_release_notes_of_a_single_commit(perdure: Perdure, tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo", ["The one and only"])
    perdure("run", "release_notes.py", "--input", f"repo={repo}")
    assert "- The one and only (" in (repo / "RELEASE_NOTES.md").read_text()


def test_release_notes_that_nobody_wants_written(perdure: Perdure, tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo", ["One"])
    arguments = ["--input", f"repo={repo}", "--answer", "do not write it", "--json"]
    output = json.loads(perdure("run", "release_notes.py", *arguments).stdout)["output"]
    assert output["written"] is None
    assert not (repo / "RELEASE_NOTES.md").exists()


@pytest.mark.parametrize(
    ("subjects", "arguments", "code"),
    [
        (None, [], "no_repository"),
        ([], [], "no_commits"),
        (["One"], ["--input", "since=v9"], "no_such_revision"),
        (["One"], ["--input", "output=../elsewhere.md"], "output_refused"),
    ],
)
def test_release_notes_refuse_what_cannot_be(
    perdure: Perdure, tmp_path: Path, subjects: list[str] | None, arguments: list[str], code: str
) -> None:
    repo = tmp_path / "repo"
    if subjects is None:
        repo.mkdir()
    else:
        repository(repo, subjects)
    done = perdure("run", "release_notes.py", "--input", f"repo={repo}", *arguments, exit_code=FAILED)
    assert code in done.stderr
    assert not (tmp_path / "elsewhere.md").exists()


@pytest.mark.parametrize("subjects", [["One", "tag v1", "Add two", "Fix three"], ["One"]], ids=["several", "single"])
def test_crash_demo(tmp_path: Path, subjects: list[str]) -> None:
    """Its own last act compares output and file with those of the undisturbed run."""
    repo = repository(tmp_path / "repo", subjects)
    for _ in range(2):  # it works again and again
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "crash_demo.py")],
            cwd=repo,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stdout
        assert "same output: True; same file: True" in done.stdout
        assert "git was asked 2 times more: " in done.stdout
        assert git(repo, "status", "--porcelain") == ""


def test_make_knows_the_demos() -> None:
    assert shutil.which("make") is not None
    for target, program in (("demo", "release_notes.py"), ("crash-demo", "crash_demo.py")):
        told = subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, text=True)
        assert f"examples/{program}" in told.stdout
