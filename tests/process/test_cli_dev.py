"""`perdure dev`: the files are read again, and the port, the runs and their readers go on."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.process.commandline import LIMIT_S, CommandLine, end, reach
from tests.process.serving import Served, serving

FIRST = """
from perdure import Run, workflow

@workflow
async def gate(run: Run) -> str:
    return "first: " + await run.ask("Go on?")
"""
SECOND = (
    FIRST
    + """
@workflow
async def more(run: Run) -> str:
    return "second"
"""
)


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    commands = CommandLine(tmp_path)
    (tmp_path / "app.py").write_text(FIRST)
    return commands


def heard(service: Served, event: str) -> None:
    """Read what it tells up to an event."""
    assert service.process.stdout is not None
    for line in service.process.stdout:
        if json.loads(line)["event"] == event:
            return
    raise AssertionError(f"it ended before {event!r}")


def child_of(process: subprocess.Popen[str]) -> int:
    """The process that serves."""
    [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def names(service: Served) -> set[str]:
    return {one["name"] for one in service.get("/workflows")["workflows"]}


def records(answer: Any, until: str) -> list[tuple[int, str]]:
    """The frames of a stream up to a kind of event, or to its end."""
    found, number = [], 0
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if line.startswith("id: "):
            number = int(line[4:])
        if line.startswith("event: "):
            found.append((number, line[7:]))
            if line[7:] == until:
                break
    return found


def test_changed_files_are_served_under_the_same_address(perdure: CommandLine) -> None:
    with serving(perdure, "app.py", command="dev") as service:
        assert names(service) == {"gate"}
        service.start("gate", "g")
        service.reaches("g", "waiting")
        (perdure.folder / "app.py").write_text(SECOND)
        heard(service, "reloading")
        assert service.get("/healthz") == {"status": "ok"}  # it waits for the next one instead of being turned away
        heard(service, "reloaded")
        assert names(service) == {"gate", "more"}
        assert service("POST", "/runs/g/answer", {"value": "yes"})[0] == 202
        assert service.reaches("g", "completed")["output"] == "first: yes"
        assert end(service.process, signal.SIGINT).code == 0


def test_a_reader_of_events_goes_on_over_a_reload(perdure: CommandLine) -> None:
    with serving(perdure, "app.py", command="dev") as service:
        service.start("gate", "g")
        service.reaches("g", "waiting")
        path = f"{service.url}/runs/g/events?stream=true"
        bearer = {"authorization": f"Bearer {service.token}"}
        with urllib.request.urlopen(urllib.request.Request(path, headers=bearer), timeout=LIMIT_S) as answer:
            first = records(answer, "run.suspended")
            (perdure.folder / "app.py").write_text(SECOND)
            first += records(answer, "")  # the stream ends when the service does
        service("POST", "/runs/g/answer", {"value": "yes"})
        again = bearer | {"last-event-id": str(first[-1][0])}
        with urllib.request.urlopen(urllib.request.Request(path, headers=again), timeout=LIMIT_S) as answer:
            rest = records(answer, "")
        assert rest[-1][1] == "run.completed"
        assert [number for number, _ in first + rest] == list(range(1, len(first + rest) + 1))
        end(service.process)


def test_a_file_with_an_error_leaves_the_old_one_serving(perdure: CommandLine) -> None:
    with serving(perdure, "app.py", command="dev") as service:
        (perdure.folder / "app.py").write_text("def (")
        heard(service, "refused")
        assert names(service) == {"gate"}
        (perdure.folder / "app.py").write_text(SECOND)
        heard(service, "reloaded")
        assert names(service) == {"gate", "more"}
        ended = end(service.process)
        assert "app.py: line 1" in ended.err


def test_what_a_file_imports_is_watched_too(perdure: CommandLine) -> None:
    (perdure.folder / "words.py").write_text('NAME = "one"\n')
    (perdure.folder / "app.py").write_text(FIRST.replace("import Run, workflow", "import Run, workflow\nimport words"))
    with serving(perdure, "app.py", command="dev") as service:
        (perdure.folder / "words.py").write_text('NAME = "two"\n')
        heard(service, "reloaded")
        end(service.process)


def test_a_service_that_crashed_is_started_again(perdure: CommandLine) -> None:
    with serving(perdure, "app.py", command="dev") as service:
        service.start("gate", "g")
        service.reaches("g", "waiting")
        os.kill(child_of(service.process), signal.SIGKILL)
        heard(service, "crashed")
        heard(service, "reloaded")
        assert service("POST", "/runs/g/answer", {"value": "yes"})[0] == 202
        service.reaches("g", "completed")
        ended = end(service.process)
    assert ended.code == 0


def test_a_definition_that_changed_under_a_run_parks_it(perdure: CommandLine) -> None:
    with serving(perdure, "app.py", command="dev") as service:
        service.start("gate", "g")
        service.reaches("g", "waiting")
        (perdure.folder / "app.py").write_text(FIRST.replace("@workflow", "@workflow(version='2')"))
        heard(service, "reloaded")
        service("POST", "/runs/g/answer", {"value": "yes"})
        assert service.reaches("g", "paused")["reason"] == "definition_changed"
        end(service.process)


def test_it_ends_with_what_watches_over_it(perdure: CommandLine) -> None:
    with serving(perdure, "app.py", command="dev") as service:
        child = child_of(service.process)
        process = os.pidfd_open(child)
        try:
            end(service.process, signal.SIGKILL)
            ended, _, _ = select.select([process], [], [], LIMIT_S)
            assert ended == [process]
        finally:
            os.close(process)


def test_a_person_reads_one_url(perdure: CommandLine) -> None:
    with perdure.started("dev", "app.py", "--port", "0") as process:
        assert process.stdout is not None
        assert "/#token=pd_" in process.stdout.readline()
        reach(process, "Ctrl-C stops it")
        (perdure.folder / "app.py").write_text(SECOND)
        reach(process, "serving again")
        ended = end(process, signal.SIGINT)
    assert (ended.code, ended.out) == (0, "")


def test_what_cannot_be_served_at_all_ends_it_with_the_reason(perdure: CommandLine) -> None:
    refused = perdure("dev", "none.py", "--port", "0", "--json", code=2)
    assert json.loads(refused.err)["error"]["code"] == "definition_load"
    assert not (perdure.folder / ".perdure").exists()
