"""Every example pipeline runs as its comments say, in processes of its own; killed in the middle, it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.process.test_examples import EXAMPLES, PERDURE, environment, git

NAMES = {"draft_review", "quality_gate", "release", "supervised", "supervised_child"}
COMPLETED, FAILED, USAGE, NEEDS_ANSWER, IN_DOUBT = 0, 1, 2, 3, 4

Event = dict[str, Any]


class Folder:
    """A copy of the examples, and the command line in its sample project.

    Attributes:
        path: of the sample project, which is a git repository here.
        environ: of the commands, in addition to the tests' own.
    """

    def __init__(self, path: Path) -> None:
        shutil.copytree(EXAMPLES, path / "examples", ignore=shutil.ignore_patterns("__pycache__", ".perdure", "dist"))
        self.path = path / "examples" / "sample_project"
        self.environ: dict[str, str] = {}
        git(self.path, "init", "--quiet", "--initial-branch=main")
        self.commit("The first one")

    def commit(self, subject: str) -> None:
        git(self.path, "add", ".")
        git(self.path, "commit", "--quiet", "-m", subject)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        words = [f"../{word}" if word.endswith(".dot") else word for word in arguments]
        return subprocess.Popen(
            [*PERDURE, *words],
            cwd=self.path,
            env=environment() | self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def perdure(self, *arguments: str, exit_code: int = COMPLETED) -> subprocess.CompletedProcess[str]:
        with self.begin(*arguments) as process:
            out, told = process.communicate(timeout=50)
        assert process.returncode == exit_code, f"{arguments}: exit code {process.returncode}\n{out}\n{told}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, told)

    def events(self, run_id: str) -> list[Event]:
        return [json.loads(line) for line in self.perdure("events", run_id, "--json").stdout.splitlines()]

    def stages(self, run_id: str) -> list[str]:
        """The nodes that were entered, in their order, branches aside."""
        return [one["node"].partition("#")[0] for one in self.events(run_id) if one["kind"] == "node.entered"]

    def artifact(self, run_id: str, name: str) -> str:
        """The newest artifact of this name."""
        listed = json.loads(self.perdure("artifacts", run_id, "--json").stdout)
        found = [one["sha256"] for one in listed if one["name"] == name]
        assert found, f"no {name} among {[one['name'] for one in listed]}"
        return self.perdure("artifacts", run_id, "--get", found[-1]).stdout

    def killed(self, *arguments: str, run_id: str, when: Callable[[Event], bool]) -> list[Event]:
        """Begin a command, kill it with SIGKILL behind an event, and return the journal that it leaves."""
        process = self.begin(*arguments)
        try:
            self.follow(run_id, when)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        return self.events(run_id)

    def follow(self, run_id: str, when: Callable[[Event], bool]) -> None:
        """Follow a run's journal until such an event is committed."""
        while True:
            with self.begin("events", run_id, "--follow", "--json") as follower:
                assert follower.stdout is not None
                try:
                    for line in follower.stdout:
                        if when(json.loads(line)):
                            return
                finally:
                    follower.kill()
            assert follower.returncode == USAGE, f"run {run_id} ended without that event"  # it has not begun yet


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def kind_at(kind: str, node: str, scope: str = "") -> Callable[[Event], bool]:
    """Is it an event of this kind, at this node, in a scope with this text?"""
    return lambda event: event["kind"] == kind and str(event["node"]).startswith(node) and scope in str(event)


def results_of(events: Sequence[Event], node: str) -> list[Event]:
    """The recorded results of the commands of a node, or of the branches of a fan-out."""
    return [one for one in events if kind_at("step.completed", node)(one)]


# --- all of them ------------------------------------------------------------------------------------------------------


def test_there_is_a_test_for_each() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.dot")} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_it_is_valid_canonical_and_says_how_to_run_it(folder: Folder, name: str) -> None:
    text = (EXAMPLES / f"{name}.dot").read_text()
    assert re.search(rf"^//     perdure run (\.\.|examples)/{name}\.dot", text, re.MULTILINE)
    assert folder.perdure("validate", f"{name}.dot", "--json").stdout == ""
    folder.perdure("fmt", "--check", f"{name}.dot")


# --- the quality gate -------------------------------------------------------------------------------------------------


def test_the_quality_gate_reports_what_a_person_accepted(folder: Folder) -> None:
    for run_id in ("gate", "again"):  # it works again and again
        folder.perdure("run", "quality_gate.dot", "--id", run_id, exit_code=NEEDS_ANSWER)
        folder.perdure("answer", run_id, "A")
        folder.perdure("run", "quality_gate.dot", "--id", run_id)
    report = (folder.path / "quality_report.md").read_text()
    assert re.findall("run (.*)", report) == ["gate", "again"]
    assert report.count("- passed: ") == 6
    assert "Ran 2 tests" in folder.artifact("gate", "tests/visit-1/tests.txt")
    assert folder.artifact("again", "report/visit-1/report.md") in report
    assert git(folder.path, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("line", "failed"),
    [("assert 1 is 1", "syntax"), ("fahrenheit = kelvin", "tests"), ("def debug(): breakpoint()", "leftovers")],
)
def test_the_quality_gate_does_not_offer_to_accept_what_is_bad(folder: Folder, line: str, failed: str) -> None:
    module = folder.path / "temperatures.py"
    good = module.read_text()
    module.write_text(f"{good}\n{line}\n")
    folder.perdure("run", "quality_gate.dot", "--id", "gate", exit_code=NEEDS_ANSWER)
    assert "answer_refused" in folder.perdure("answer", "gate", "A", exit_code=USAGE).stderr
    marks = folder.path / ".perdure" / "quality" / "gate"
    assert {"syntax", "tests", "leftovers"} - {path.name for path in marks.iterdir()} == {failed}
    module.write_text(good)
    folder.perdure("answer", "gate", "C")
    folder.perdure("run", "quality_gate.dot", "--id", "gate", exit_code=NEEDS_ANSWER)
    folder.perdure("answer", "gate", "A")
    folder.perdure("run", "quality_gate.dot", "--id", "gate")
    assert folder.stages("gate").count("checks") == 2


def test_the_quality_gate_fails_when_a_person_says_no(folder: Folder) -> None:
    folder.perdure("run", "quality_gate.dot", "--id", "gate", exit_code=NEEDS_ANSWER)
    folder.perdure("answer", "gate", "R")
    told = folder.perdure("run", "quality_gate.dot", "--id", "gate", exit_code=FAILED).stderr
    assert "a person said no" in told
    assert not (folder.path / "quality_report.md").exists()


def test_the_quality_gate_killed_in_a_check_repeats_that_check_alone(folder: Folder) -> None:
    """A test of the project opens a pipe that nobody writes to, so the check stands still until it is killed."""
    os.mkfifo(folder.path / "pipe")
    (folder.path / "test_pipe.py").write_text("open('pipe').read()\n")
    run = ["run", "quality_gate.dot", "--id", "gate"]
    seen: set[str] = set()

    def two_are_done(event: Event) -> bool:
        seen.update(branch for branch in ("[0]", "[2]") if kind_at("step.completed", "checks", branch)(event))
        return len(seen) == 2

    before = folder.killed(*run, run_id="gate", when=two_are_done)
    marks = folder.path / ".perdure" / "quality" / "gate"
    stamps = {name: (marks / name).stat().st_mtime_ns for name in ("syntax", "leftovers")}
    (folder.path / "pipe").unlink()
    (folder.path / "pipe").write_text("")
    folder.perdure(*run, exit_code=NEEDS_ANSWER)
    assert {name: (marks / name).stat().st_mtime_ns for name in stamps} == stamps
    after = folder.events("gate")
    assert after[: len(before)] == before
    assert len(results_of(after, "checks")) == 3
    folder.perdure("answer", "gate", "A")
    folder.perdure(*run)


# --- the release ------------------------------------------------------------------------------------------------------


def test_the_release_is_written_with_consent(folder: Folder) -> None:
    folder.perdure("run", "release.dot", "--id", "release", exit_code=NEEDS_ANSWER)
    assert not (folder.path / "dist").exists()
    folder.perdure("answer", "release", "Y")
    for _ in range(2):  # the second time it has ended: nothing is done again
        folder.perdure("run", "release.dot", "--id", "release")
    text = (folder.path / "dist" / "release-0.2.0.md").read_text()
    assert "`kelvin` refuses temperatures below absolute zero" in text
    assert "Celsius to Fahrenheit" not in text
    assert "The first one" in text
    assert folder.artifact("release", "write/visit-1/release-0.2.0.md") == text
    assert len((folder.path / "dist" / "releases.txt").read_text().splitlines()) == 1
    folder.perdure("run", "release.dot", "--id", "next", exit_code=NEEDS_ANSWER)  # works again: dist is no change
    assert git(folder.path, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("file", "text", "failed"),
    [("VERSION", "next\n", "version changelog"), ("CHANGELOG.md", "# Changes\n", "changelog"), ("new.py", "", "tree")],
)
def test_the_release_is_refused_with_the_checks_that_did_not_pass(
    folder: Folder, file: str, text: str, failed: str
) -> None:
    (folder.path / file).write_text(text)
    if failed != "tree":
        folder.commit("Another one")
    told = folder.perdure("run", "release.dot", "--id", "release", exit_code=FAILED).stderr
    assert f"no release; checks that did not pass: {failed}\n" in told
    assert folder.stages("release")[-2:] == ["ready", "withdraw"]
    assert not (folder.path / "dist").exists()


def test_the_release_is_not_made_without_consent(folder: Folder) -> None:
    folder.perdure("run", "release.dot", "--id", "release", exit_code=NEEDS_ANSWER)
    folder.perdure("answer", "release", "N")
    told = folder.perdure("run", "release.dot", "--id", "release", exit_code=FAILED).stderr
    assert "did not pass: none" in told
    assert not (folder.path / "dist").exists()


@pytest.mark.parametrize("happened", [True, False], ids=["it-was-written", "it-was-not"])
def test_the_release_killed_while_it_is_written_asks_what_became_of_it(folder: Folder, happened: bool) -> None:
    """The list of releases is a pipe that nobody reads, so the command stands still until it is killed."""
    releases = folder.path / "dist" / "releases.txt"
    releases.parent.mkdir()
    os.mkfifo(releases)
    run = ["run", "release.dot", "--id", "release"]
    folder.perdure(*run, exit_code=NEEDS_ANSWER)
    folder.perdure("answer", "release", "Y")
    before = folder.killed(*run, run_id="release", when=kind_at("step.intended", "write"))
    releases.unlink()
    told = folder.perdure(*run, exit_code=IN_DOUBT).stderr
    assert "perdure resolve release" in told
    if happened:
        outcome = {"result": EMPTY_RESULT, "files": {}, "cancelled": False}
        folder.perdure("resolve", "release", "--done", json.dumps(outcome))
    else:
        folder.perdure("resolve", "release", "--not-done")
    folder.perdure(*run)
    after = folder.events("release")
    assert after[: len(before)] == before
    assert len(results_of(after, "checks")) == 3
    assert len([one for one in after if one["kind"] == "wait.opened"]) == 2  # consent was not asked for again
    assert releases.exists() is not happened


EMPTY_RESULT = {
    "exit_code": 0,
    "signal": None,
    "timed_out": False,
    "stdout": "",
    "stderr": "",
    "stdout_bytes": 0,
    "stderr_bytes": 0,
    "stdout_dropped": 0,
    "stderr_dropped": 0,
    "duration_s": 1.0,
}


# --- the supervised child ---------------------------------------------------------------------------------------------


def child_of(folder: Folder, run_id: str) -> str:
    spawned = [one["payload"]["child"] for one in folder.events(run_id) if one["kind"] == "child.spawned"]
    assert len(spawned) == 1
    return str(spawned[0])


def assert_sums(folder: Folder, child: str) -> None:
    names = sorted(path.name for path in folder.path.iterdir() if path.is_file() and not path.name.startswith("."))
    sums = [line.split("  ./") for line in folder.artifact(child, "keep/visit-1/SHA256SUMS").splitlines()]
    expected = {name: hashlib.sha256((folder.path / name).read_bytes()).hexdigest() for name in names}
    assert {name: digest for digest, name in sums} == expected


def test_the_supervisor_ends_with_its_child(folder: Folder) -> None:
    output = json.loads(folder.perdure("run", "supervised.dot", "--id", "watch").stdout)
    child = output["context"]["stack"]["child"]
    assert (child["status"], child["outcome"]) == ("completed", "success")
    assert child["run_id"] == child_of(folder, "watch")
    assert_sums(folder, child["run_id"])
    looks = [one for one in folder.events("watch") if one["kind"] == "wait.resolved"]
    assert len(looks) >= 2


def test_the_supervisor_does_not_wait_for_a_person_that_the_child_needs(folder: Folder) -> None:
    (folder.path / "empty").touch()
    output = json.loads(folder.perdure("run", "supervised.dot", "--id", "watch", "--patience", "20s").stdout)
    assert output["context"]["stack"]["child"]["current_node"] == "ask"
    assert folder.stages("watch")[-2:] == ["note", "exit"]
    child = child_of(folder, "watch")
    assert child in folder.perdure("questions").stdout
    (folder.path / "empty").unlink()
    folder.perdure("answer", child, "G")
    folder.perdure("run", "supervised_child.dot", "--id", child)
    assert_sums(folder, child)


def test_the_supervisor_killed_goes_on_with_the_same_child(folder: Folder) -> None:
    run = ["run", "supervised.dot", "--id", "watch"]
    folder.killed(*run, run_id="watch", when=kind_at("step.completed", "watch"))
    child = child_of(folder, "watch")
    folder.perdure(*run)
    assert child_of(folder, "watch") == child
    assert_sums(folder, child)


# --- with a model -----------------------------------------------------------------------------------------------------

ARGUMENTS = ["--input", "topic=checkpoints", "--id", "text"]


def test_the_draft_is_simulated_without_an_endpoint(folder: Folder) -> None:
    output = json.loads(folder.perdure("run", "draft_review.dot", *ARGUMENTS).stdout)
    assert output["simulated"] is True
    assert folder.stages("text") == ["start", "plan", "draft", "review", "exit"]
    assert folder.artifact("text", "review/visit-1/response.md") == "[Simulated] Response for stage: review"


class Endpoint(ThreadingHTTPServer):
    """A model endpoint that answers by a script, and stands still where that says `None`."""

    daemon_threads = True

    def __init__(self, script: Sequence[str | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.script = list(script)
        self.asked: list[dict[str, Any]] = []
        self.standing_still = threading.Event()

    @property
    def environ(self) -> dict[str, str]:
        return {"PERDURE_MODEL_URL": f"http://127.0.0.1:{self.server_address[1]}/v1", "PERDURE_MODEL": "small"}


class _Answering(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        text = self.server.script.pop(0)
        if text is None:
            self.server.standing_still.set()
            self.rfile.read(1)  # until the client is gone
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        body = json.dumps({"id": "1", "model": "small", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def endpoint(*script: str | None) -> Iterator[Endpoint]:
    with Endpoint(script) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


REFUSED = '{"outcome": "fail", "failure_reason": "say what a checkpoint is for"}'
ACCEPTED = '{"outcome": "success"}'


def test_the_draft_is_made_again_until_the_review_accepts_it(folder: Folder) -> None:
    with endpoint("three points", "first draft", REFUSED, "second draft", ACCEPTED) as server:
        folder.environ = server.environ
        output = json.loads(folder.perdure("run", "draft_review.dot", *ARGUMENTS).stdout)
    assert "simulated" not in output
    stages = ["start", "plan", "draft", "review", "exit", "draft", "review", "exit"]
    assert folder.stages("text") == stages
    assert folder.artifact("text", "draft/visit-2/response.md") == "second draft"
    plan, _, review, again, _ = server.asked
    assert "topic: checkpoints" in plan["messages"][0]["content"]
    assert [one["reasoning_effort"] for one in server.asked] == ["low", "low", "high", "low", "high"]
    assert "first draft" in [one["content"] for one in review["messages"]]
    assert REFUSED in [one["content"] for one in again["messages"]]


def test_the_draft_killed_in_a_request_asks_for_nothing_again_that_was_answered(folder: Folder) -> None:
    with endpoint("three points", "a draft", None, ACCEPTED) as server:
        folder.environ = server.environ
        process = folder.begin("run", "draft_review.dot", *ARGUMENTS)
        assert server.standing_still.wait(30)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        folder.perdure("run", "draft_review.dot", *ARGUMENTS)
    assert [len(one["messages"]) for one in server.asked] == [2, 3, 5, 5]
    assert server.asked[2] == server.asked[3]
    assert folder.artifact("text", "draft/visit-1/response.md") == "a draft"
