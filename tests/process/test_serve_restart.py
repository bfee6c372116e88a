"""The service is killed, or told to stop, with runs of every kind under way: nothing is lost."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.process.commandline import CommandLine, end, reach
from tests.process.serving import Served, serving

MORE = """

@workflow
async def nested(run: Run) -> str:
    return await (await run.spawn(who)).result()


@step(kind="read")
async def slow() -> str:
    say("slow")
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return "slow and done"


@workflow
async def patient(run: Run) -> str:
    return await run.step(slow)
"""
GATE = """digraph Gate { start [shape=Mdiamond]; ask [shape=hexagon, prompt="Ship it?"]; done [shape=Msquare]
    start -> ask; ask -> done [label="[Y] Yes"] }"""


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    commands = CommandLine(tmp_path)
    with (tmp_path / "flows.py").open("a") as file:
        file.write(MORE)
    return commands


def begin_one_of_each(service: Served) -> None:
    """Runs that wait for a person, a signal, a timer, a child; one that is paused, one that is executed, a pipeline."""
    service.start("who", "question")
    service.start("order", "signal")
    service.start("nap", "timer", time="1h")
    service.start("nested", "child")
    service.start("who", "paused")
    status, told = service("POST", "/pipelines", {"dot": GATE, "opts": {"pipeline_id": "gate"}})
    assert status == 202, told
    for run_id in ("question", "signal", "timer", "child", "paused", "gate"):
        service.reaches(run_id, "waiting")
    assert service("POST", "/runs/paused/pause", {})[0] == 202
    service.reaches("paused", "paused")
    service.start("payer", "doubt")
    service.start("job", "step")


def statuses(service: Served) -> dict[str, str]:
    return {run["run_id"]: run["status"] for run in service.get("/runs?limit=1000")["runs"]}


def test_every_unfinished_run_is_known_before_the_first_request_after_a_kill(perdure: CommandLine) -> None:
    with serving(perdure, "flows.py") as service:
        begin_one_of_each(service)
        reach(service.process, "AT write 2")
        question = service.get("/runs/question/questions")["questions"][0]["wait_id"]
        [asked] = service.get("/pipelines/gate/questions")["questions"]
        before = statuses(service)
        end(service.process, signal.SIGKILL)
    perdure.go()
    with serving(perdure, "flows.py") as service:
        after = statuses(service)  # the very first request
        assert after.keys() == before.keys()
        kept = ("question", "signal", "timer", "child", "paused", "gate")
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
        assert service.get("/runs/question/questions")["questions"][0]["wait_id"] == question
        assert service.get("/pipelines/gate/questions")["questions"] == [asked]
        go_on(service, asked["id"])
        assert perdure.effects().count("write 1") == 1
        assert perdure.effects().count("pay 5") == 1
    assert perdure("verify", "--all").code == 0


def go_on(service: Served, asked: str) -> None:
    """Bring each run what it waits for, and see it end."""
    [inner] = [run for run in statuses(service) if run not in NAMES]
    for run_id, path, body in (
        ("question", "answer", {"value": "Ada"}),
        ("signal", "signal", {"name": "paid", "payload": {"by": "card"}, "match": "o1"}),
        ("timer", "cancel", {}),
        ("paused", "resume", {}),
        (inner, "answer", {"value": "Bob"}),
    ):
        status, told = service("POST", f"/runs/{run_id}/{path}", body)
        assert status == 202, (run_id, told)
    service.reaches("paused", "waiting")
    assert service("POST", "/runs/paused/answer", {"value": "Eve"})[0] == 202
    assert service("POST", f"/pipelines/gate/questions/{asked}/answer", {"answer": "Y"})[0] == 202
    service.reaches("timer", "cancelled")
    assert service.reaches("child", "completed")["output"] == "Bob"
    for run_id in ("question", "signal", "paused", "gate", "step"):
        service.reaches(run_id, "completed")
    service.reaches("doubt", "waiting")
    status, told = service("POST", "/runs/doubt/resolve", {"resolution": "done", "value": "paid 5"})
    assert status == 202, told
    assert service.reaches("doubt", "completed")["output"] == "paid 5"


NAMES = {"question", "signal", "timer", "child", "paused", "gate", "doubt", "step"}


def damage(file: Path, run_id: str, seq: int) -> None:
    """Change one byte of a record's payload."""
    database = apsw.Connection(str(file))
    database.execute(
        """update events set payload = cast(x'20' || substr(payload, 2) as blob)
        where seq = ? and run = (select number from runs where run_id = ?)""",
        (seq, run_id),
    )
    assert database.changes() == 1
    database.close()


def test_a_corrupt_run_is_listed_as_such_and_harms_no_other(perdure: CommandLine) -> None:
    with serving(perdure, "flows.py") as service:
        for run_id in ("good", "bad", "worse"):
            service.start("who", run_id)
        status, told = service("POST", "/pipelines", {"dot": GATE, "opts": {"pipeline_id": "gate"}})
        assert status == 202, told
        for run_id in ("good", "bad", "worse", "gate"):
            service.reaches(run_id, "waiting")
        end(service.process, signal.SIGKILL)
    file = perdure.folder / ".perdure/runs.db"
    damage(file, "bad", 2)
    damage(file, "worse", 1)
    damage(file, "gate", 1)
    with serving(perdure, "flows.py") as service:
        assert set(statuses(service)) == {"good", "bad", "worse", "gate"}
        for run_id in ("bad", "worse", "gate"):
            for method, path, body in (
                ("GET", "", None),
                ("GET", "/events?stream=false", None),
                ("GET", "/state", None),
                ("GET", "/questions", None),
                ("GET", "/journal", None),
                ("GET", "/verify", None),
                ("POST", "/answer", {"value": "x"}),
            ):
                status, text = service.text(method, f"/runs/{run_id}{path}", body)
                assert "Traceback" not in text
                assert json.loads(text), (run_id, path)
                assert status != 202, (run_id, path)
        assert is_told_as_corrupt(service, "bad")
        assert is_told_as_corrupt(service, "worse")
        assert is_told_as_corrupt(service, "gate")
        [listed] = service.get("/pipelines")["pipelines"]
        assert (listed["pipeline_id"], listed["status"]) == ("gate", "running")
        assert listed["error"].startswith("corrupt_record: ")
        assert service("POST", "/runs/good/answer", {"value": "Ada"})[0] == 202
        assert service.reaches("good", "completed")["output"] == "Ada"
        service.start("nap", "new")
        service.reaches("new", "completed")
        assert end(service.process).code == 0


def is_told_as_corrupt(service: Served, run_id: str) -> bool:
    """Whether the service says that what a run's journal holds is not what was written."""
    _, told = service("GET", f"/runs/{run_id}")
    _, found = service("GET", f"/runs/{run_id}/verify")
    return "corrupt_record" in json.dumps(told) and "corrupt_record" in json.dumps(found) + json.dumps(told)


class Asking:
    """A request whose body comes in parts, on a connection of its own."""

    def __init__(self, service: Served, path: str, body: Any) -> None:
        self._body = json.dumps(body).encode()
        host, _, port = service.url.removeprefix("http://").partition(":")
        self.line = socket.create_connection((host, int(port)), timeout=30)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {service.token}\r\n"
            f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(self._body)}\r\n\r\n"
        )
        self.line.sendall(head.encode() + self._body[:1])

    def finish(self) -> bytes:
        """Send the rest; the whole answer."""
        with self.line:
            self.line.sendall(self._body[1:])
            return self.line.makefile("rb").read()


def test_what_is_in_flight_ends_before_the_service_does(perdure: CommandLine) -> None:
    with serving(perdure, "flows.py") as service:
        service.start("patient", "p")
        reach(service.process, "AT slow")
        asking = Asking(service, "/runs", {"workflow": "who", "id": "late"})
        service.get("/healthz")  # the other connection was accepted before this one was
        service.process.send_signal(signal.SIGTERM)
        reach(service.process, "letting what is in flight end")
        perdure.go()
        answer = asking.finish()
        assert answer.startswith(b"HTTP/1.1 201"), answer
        out, err = service.process.communicate(timeout=30)
        assert service.process.returncode == 0, err
        assert json.loads(out) == {"event": "ended"}
    shown = perdure("show", "p", "--json").json
    assert shown["status"] in ("running", "completed", "pending")
    kinds = [event["kind"] for event in perdure("events", "p", "--json").lines]
    assert "step.completed" in kinds  # its step was let to end, and what it found is kept
    assert perdure("show", "late", "--json").json["status"] in ("pending", "running", "waiting")
    with serving(perdure, "flows.py") as service:
        service.reaches("p", "completed")
        service.reaches("late", "waiting")
