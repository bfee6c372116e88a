"""Every command of the command line with `--server`: over a service it says and does the same as on its store."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import apsw
import pytest
import typer

from perdure import Runtime
from perdure.cli.application import HEADINGS, Group, invoke
from perdure.cli.completion import complete_run, complete_unfinished
from perdure.core.version import VERSION
from perdure.workflow.loading import load_file
from tests.process.commandline import CommandLine, Ended, Terminal, end, reach
from tests.process.service import OWN, Serving, serving

FLOWS = Path(__file__).parents[1] / "unit" / "cli" / "flows.py"
DOT = """digraph greet {
    graph [goal="say hello to $name"]
    start [shape=Mdiamond]
    gate [shape=hexagon, label="Go on?"]
    done [shape=Msquare]
    start -> gate
    gate -> done [label="[Y] Yes"]
    gate -> sure [label="[N] No"]
    sure [shape=hexagon, label="Sure?"]
    sure -> done
}
"""
LOOKS = {
    "ps": [
        ["ps", "--all", "--json"],
        ["ps", "--json"],
        ["ps", "-a", "--tag", "a", "--json"],
        ["ps", "--status", "nosuch"],
    ],
    "show": [["show", run, "--json"] for run in ("rich", "who", "order", "parent", "checked", "payer", "none", "/..")],
    "events": [["events", "rich"], ["events", "who", "--json", "--after", "2"], ["events", "none"]],
    "state": [["state", "rich"], ["state", "rich", "--at", "6", "--json"], ["state", "rich", "--at", "999"]],
    "artifacts": [
        ["artifacts", "rich", "--json"],
        ["artifacts", "rich"],
        ["artifacts", "rich", "--get", "2cf24"],
        ["artifacts", "rich", "--get", "00"],
    ],
    "questions": [["questions", "--json"], ["questions"], ["questions", "parent", "--json"], ["questions", "none"]],
    "graph": [["graph", "rich"], ["graph", "review", "--format", "json"], ["graph", "flows.py:review"]],
    "verify": [["verify", "rich", "--json"], ["verify", "rich"], ["verify", "--all", "--json"], ["verify", "none"]],
}
REFUSED = {
    "worker": ["worker", "flows.py"],
    "serve": ["serve"],
    "dev": ["dev", "flows.py"],
    "keys add": ["keys", "add", "ada", "--scope", "admin"],
    "keys list": ["keys", "list"],
    "keys revoke": ["keys", "revoke", "ada"],
    "validate": ["validate", "greet.dot"],
    "fmt": ["fmt", "greet.dot"],
}
CHANGES = {"run", "answer", "signal", "cancel", "pause", "resume", "retry", "resolve"}
OTHERS = {"doctor", "version"}

Perdure = Callable[..., Ended]


# --- a store with runs of all sorts, and the service of it ------------------------------------------------------------


async def _fill(folder: Path) -> None:
    """Runs of all sorts, each where it stands still."""
    workflows = {one.name: one for one in load_file(folder / "flows.py").definitions}
    (folder / ".perdure").mkdir()
    async with Runtime(f"sqlite:///{folder}/.perdure/runs.db", workflows=workflows.values()) as runtime:
        stands = {"rich": "completed", "review": "completed", "checked": "failed", "payer": "waiting"}
        stands |= dict.fromkeys(("who", "order", "parent"), "waiting")
        for name, status in stands.items():
            handle = await runtime.start(workflows[name], id=name, tags=["a"] if name in ("rich", "who") else [])
            with runtime.hub.watch(None) as grown:
                while await handle.status() != status:
                    await grown.wait()
                    grown.clear()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Serving]]:
    folder = tmp_path_factory.mktemp("service")
    shutil.copy(FLOWS, folder)
    (folder / "greet.dot").write_text(DOT)
    asyncio.run(_fill(folder))
    with serving(folder, "flows.py") as found:
        yield folder, found


@pytest.fixture
def local(
    service: tuple[Path, Serving], monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Perdure:
    """Calls the command line on the store itself."""
    monkeypatch.chdir(service[0])
    for name in OWN:
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str, code: int | None = 0) -> Ended:
        capsysbinary.readouterr()
        found = invoke(arguments)
        out, err = capsysbinary.readouterr()
        ended = Ended(found, out.decode(), err.decode())
        assert code is None or found == code, (arguments, ended)
        return ended

    return call


@pytest.fixture
def remote(local: Perdure, service: tuple[Path, Serving]) -> Perdure:
    """Calls it with the service in the environment."""

    def call(*arguments: str, code: int | None = 0) -> Ended:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PERDURE_SERVER", service[1].start_url)
            return local(*arguments, code=code)

    return call


def _error(ended: Ended) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ended.err.splitlines()[-1])["error"]
    return found


# --- no command is forgotten ------------------------------------------------------------------------------------------


def _commands() -> dict[str, Callable[..., int]]:
    found: dict[str, Callable[..., int]] = {}
    for one in (command for commands in HEADINGS.values() for command in commands):
        if isinstance(one, Group):
            found |= {f"{one.name} {name}": command for name, command in one.commands.items()}
        else:
            found[one.__name__] = one
    return found


def test_every_command_is_tested_here() -> None:
    assert set(_commands()) <= LOOKS.keys() | REFUSED.keys() | CHANGES | OTHERS


@pytest.mark.parametrize("name", _commands())
def test_every_command_knows_the_option(name: str) -> None:
    assert "server" in inspect.signature(_commands()[name]).parameters


@pytest.mark.parametrize("arguments", [one for several in LOOKS.values() for one in several], ids=" ".join)
def test_looking_over_the_service_shows_what_looking_at_its_store_shows(
    local: Perdure, remote: Perdure, arguments: list[str]
) -> None:
    expected = local(*arguments, code=None)
    for executing in re.findall(r',"perdure (?:run|worker) FILE[^"]*"', expected.out):  # not over HTTP
        expected = expected._replace(out=expected.out.replace(executing, ""))
    assert remote(*arguments, code=None) == expected


def test_the_lists_that_are_compared_are_not_empty(remote: Perdure) -> None:
    assert {"rich", "who", "order", "parent", "checked", "payer"} <= {
        row["run_id"] for row in remote("ps", "--all", "--json").lines
    }
    assert {one["workflow"] for one in remote("questions", "--json").json} >= {"who", "payer"}
    assert remote("artifacts", "rich", "--get", "2cf24").out == "hello"
    assert "BAD" not in remote("verify", "--all").out


def test_a_damaged_run_is_told_as_it_is_locally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(FLOWS, tmp_path)
    asyncio.run(_fill(tmp_path))
    damage = (("rich", 6, b'{"changed":1}'), ("review", 6, b'{"cut o'))
    with closing(apsw.Connection(str(tmp_path / ".perdure" / "runs.db"))) as database:
        for run_id, seq, payload in damage:
            place = "run = (SELECT number FROM runs WHERE run_id = ?) AND seq = ?"
            database.execute(f"UPDATE events SET payload = ? WHERE {place}", (payload, run_id, seq))
            assert database.changes() == 1
    monkeypatch.chdir(tmp_path)

    def called(*words: str) -> tuple[int, str, str]:
        return invoke(words), *capsys.readouterr()

    with serving(tmp_path, "flows.py") as found:
        for run_id in ("rich", "review"):
            for verb in ("show", "events", "state", "artifacts", "verify", "graph", "questions", "retry"):
                monkeypatch.setenv("PERDURE_SERVER", found.start_url)
                asked = called(verb, run_id, "--json")
                monkeypatch.delenv("PERDURE_SERVER")
                assert asked == called(verb, run_id, "--json"), (verb, run_id)
                assert asked[0] == 1 or verb not in ("state", "verify", "retry")
        monkeypatch.setenv("PERDURE_SERVER", found.start_url)
        code, out, err = called("verify", "--all", "--json")
        assert (code, out.count('"ok":false'), "2 bad" in err) == (1, 2, True)
        assert called("doctor")[1].count("BROKEN [journal]") == 2


@pytest.mark.parametrize("name", sorted(REFUSED.keys() & _commands().keys()))
def test_what_needs_the_store_or_files_alone_says_so(local: Perdure, name: str) -> None:
    error = _error(local(*REFUSED[name], "--server", "http://127.0.0.1:1", "--json", code=2))
    assert error["code"] == "local_only"
    assert error["message"].startswith(f"{name} takes no --server")


def test_doctor_says_what_it_cannot_check(remote: Perdure) -> None:
    found = remote("doctor", "--all", "--json").json
    assert found["ok"] is True
    assert found["server"]["version"] == VERSION
    assert found["server"]["status"] == "ready"
    assert found["runs"]["completed"] >= 2
    assert [worker["alive"] for worker in found["workers"] if "who" in worker["workflows"]].count(True) == 1
    assert found["not_checked"]
    assert "not checked over HTTP" in remote("doctor").out


def test_version_tells_both(local: Perdure, service: tuple[Path, Serving]) -> None:
    found = local("version", "--server", service[1].start_url, "--json").json
    assert found["server"] == {"url": service[1].url, "name": "perdure", "version": VERSION}
    assert service[1].token not in local("version", "--server", service[1].start_url).out


# --- commands ---------------------------------------------------------------------------------------------------------


def test_an_answer_says_who_decides_and_counts_once(local: Perdure, remote: Perdure) -> None:
    run_id = remote("run", "who", "--id", "w1", "--detach").out.strip()
    words = ("answer", run_id, "Ada", "--as", "grace", "--command-id", "a1", "--json")
    first = remote(*words).json
    assert (first["run_id"], first["answer"], first["command_id"]) == ("w1", "Ada", "a1")
    assert remote(*words).json["command_id"] == "a1"
    remote("run", "flows.py:who", "--id", "w1")
    [answered] = [one for one in local("events", "w1", "--json").lines if one["kind"] == "wait.answered"]
    assert answered["actor"] == "person:grace"
    assert _error(remote("answer", "w1", "Bob", "--json", code=2))["code"] == "wait_closed"


def test_a_signal_finds_the_run_that_waits(local: Perdure, remote: Perdure) -> None:
    remote("run", "order", "--id", "o1", "--detach")
    sent = remote("signal", "o1", "paid", "--match", "o1", "--payload", '{"sum": 5}', "--json").json
    assert (sent["run_id"], sent["signal"], sent["match"]) == ("o1", "paid", "o1")
    assert remote("run", "order", "--id", "o1", "--quiet").json == {"sum": 5}
    assert _error(remote("signal", "-", "nothing", "--json", code=2))["code"] == "wait_not_found"


def test_pause_resume_and_cancel(local: Perdure, remote: Perdure) -> None:
    remote("run", "who", "--id", "p1", "--detach")
    assert remote("pause", "p1", "--json").json["status"] == "paused"
    assert remote("state", "p1", "--json").json == local("state", "p1", "--json").json
    assert remote("run", "who", "--id", "p1", "--json", code=3).json["status"] == "waiting"
    assert remote("pause", "p1", "--json").json["status"] == "paused"
    assert remote("resume", "p1", "--json").json["status"] in ("running", "waiting")
    assert _error(remote("resume", "p1", "--accept-definition", "--json", code=2))["code"] == "wrong_state"
    assert remote("cancel", "p1", "--reason", "enough", "--json").json["run_id"] == "p1"
    assert remote("run", "who", "--id", "p1", code=6).err.count("it was cancelled: enough") == 1


def test_a_failed_run_is_opened_again_and_a_doubt_resolved(
    local: Perdure, remote: Perdure, service: tuple[Path, Serving]
) -> None:
    assert remote("run", "checked", "--id", "c1", "--json", code=1).json["error"]["message"] == "no good"
    (service[0] / "go").touch()
    assert remote("retry", "c1", "--reason", "it is there now", "--json").json["run_id"] == "c1"
    assert remote("run", "checked", "--id", "c1", "--quiet").out == "good\n"
    assert remote("run", "payer", "--id", "d1", "--json", code=4).json["in_doubt"]
    assert remote("resolve", "d1", "--done", "paid", "--json").json["resolution"] == "done"
    assert remote("run", "payer", "--id", "d1", "--quiet").out == "paid\n"
    assert (
        remote("run", "payer", "--id", "d1", "--json").json
        == local("run", "flows.py:payer", "--id", "d1", "--json").json
    )


def test_every_command_names_its_person_and_the_key_that_brought_it(local: Perdure, remote: Perdure) -> None:
    remote("run", "order", "--id", "n1", "--detach")
    remote("run", "payer", "--id", "n2", code=4)
    for words, run_id, kind in (
        (["signal", "n1", "hello"], "n1", "signal.received"),
        (["pause", "n1"], "n1", "run.paused"),
        (["resume", "n1"], "n1", "run.resumed"),
        (["cancel", "n1"], "n1", "run.cancel_requested"),
        (["retry", "n1"], "n1", "run.reopened"),
        (["resolve", "n2", "--fail"], "n2", "step.resolved"),
    ):
        remote(*words, "--as", "grace")
        if kind == "run.cancel_requested":
            remote("run", "order", "--id", "n1", code=6)
        [event] = [one for one in local("events", run_id, "--json").lines if one["kind"] == kind]
        assert (event["actor"], event["payload"]["via"]) == ("person:grace", "service:first"), kind
    assert _error(remote("pause", "n1", "--as", "a\x00b", "--json", code=2))["code"] == "invalid_id"


# --- run --------------------------------------------------------------------------------------------------------------


def test_run_prints_and_ends_as_it_does_locally(local: Perdure, remote: Perdure) -> None:
    assert remote("run", "rich", "--id", "r1").out == "2\n"
    assert (
        remote("run", "rich", "--id", "r1", "--json").json == local("run", "flows.py:rich", "--id", "r1", "--json").json
    )
    assert remote("run", "flows.py:who", "--answer", "Ada", "--tag", "b", "--quiet").out == "Ada\n"
    assert [row["status"] for row in remote("ps", "-a", "--tag", "b", "--json").lines] == ["completed"]
    waits = remote("run", "who", "--id", "r2", "--json", code=3).json
    assert (waits["exit_code"], waits["status"], waits["verified"]["ok"]) == (3, "waiting", True)
    assert remote("run", "parent", "--answer", "Eve", "--quiet").out == "Eve\n"


def test_what_run_refuses(local: Perdure, remote: Perdure) -> None:
    remote("run", "who", "--id", "x1", "--detach")
    for words, code in (
        (["nosuch"], "unknown_workflow"),
        (["flows.py"], "definition_load"),
        (["rich", "--id", "x1"], "run_conflict"),
        (["who", "--id", "x1", "-i", "a=1"], "input_type"),
        (["who", "--durability", "process"], "local_only"),
        (["who", "--id", "/"], "invalid_id"),
        (["greet.dot", "--tag", "a"], "local_only"),
        (["none.dot"], "invalid_input"),
    ):
        assert _error(remote("run", *words, "--json", code=2))["code"] == code, words


def test_a_pipeline_is_sent_as_it_stands(local: Perdure, remote: Perdure, service: tuple[Path, Serving]) -> None:
    first = remote("run", "greet.dot", "--id", "g1", "-i", "name=Ada", code=3)
    assert "run g1 (greet.dot) started" in first.err
    assert (
        remote("run", "greet.dot", "--id", "g1", "-i", "name=Ada", "--answer", "Y", "--json").json["status"]
        == "completed"
    )
    assert (
        _error(remote("run", "greet.dot", "--id", "g1", "-i", "name=Eve", "--json", code=2))["code"] == "run_conflict"
    )
    assert _error(remote("run", "greet.dot", "--id", "rich", "--json", code=2))["code"] == "run_conflict"
    (service[0] / "other.dot").write_text(DOT.replace("hello", "goodbye"))
    assert _error(remote("run", "other.dot", "--id", "g1", "--json", code=2))["code"] == "run_conflict"
    (service[0] / "bad.dot").write_text(DOT.replace("start ->", "nowhere ->"))
    assert _error(remote("run", "bad.dot", "--json", code=2))["code"].startswith("pipeline")
    assert remote("graph", "g1", "--format", "json").json == local("graph", "g1", "--format", "json").json


# --- where the service is, and who asks -------------------------------------------------------------------------------


def test_the_token_may_stand_in_a_file_or_in_the_environment(
    local: Perdure, service: tuple[Path, Serving], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, file = service[1], tmp_path / "token"
    file.write_text(found.token + "\n")
    expected = local("show", "order", "--json").json["run_id"]
    shown = local("show", "order", "--server", found.url, "--token-file", str(file))
    assert f"perdure signal --server {found.url} --token-file {file} order paid" in shown.out
    assert found.token not in shown.out + shown.err
    assert found.token not in local("show", "order", "--server", found.start_url).out
    monkeypatch.setenv("PERDURE_TOKEN", found.token)
    assert local("show", "order", "--server", found.url, "--json").json["run_id"] == expected
    assert local("show", "order", "--server", found.url + "/", "--json", "--token-file", str(file)).json["run_id"]


def test_who_is_not_known_is_told_what_to_do(
    local: Perdure, service: tuple[Path, Serving], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, empty = service[1].url, tmp_path / "empty"
    empty.touch()
    none = _error(local("ps", "--server", url, "--json", code=2))
    assert none["code"] == "not_authorised"
    assert "token" in none["hint"]
    monkeypatch.setenv("PERDURE_TOKEN", "pd_wrong")
    wrong = local("ps", "--server", url, "--json", code=2)
    assert _error(wrong)["code"] == "not_authorised"
    assert "pd_wrong" not in wrong.err
    for words in (
        ["--server", url, "--store", "memory://"],
        ["--server", "ftp://example.org"],
        ["--server", f"http://ada:secret@{url.removeprefix('http://')}"],
        ["--server", url, "--token-file", "nowhere"],
        ["--server", url, "--token-file", str(empty)],
        ["--token-file", str(empty)],
        ["--store", "memory://", "--token-file", str(empty)],
    ):
        refused = local("ps", *words, "--json", code=2)
        assert _error(refused)["code"] == "invalid_input", words
        assert "secret" not in refused.err


def test_an_option_goes_before_the_environment(
    local: Perdure, service: tuple[Path, Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("PERDURE_STORE", "sqlite:///none.db")
    assert local("show", "rich", "--server", service[1].start_url, "--json").json["run_id"] == "rich"
    assert local("show", "rich", "--store", "sqlite:///.perdure/runs.db", "--json").json["run_id"] == "rich"
    monkeypatch.setenv("PERDURE_SERVER", service[1].start_url)
    assert local("show", "rich", "--json").json["run_id"] == "rich"


def test_nobody_there(local: Perdure) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        error = _error(local("ps", "--server", address, "--json", code=1))
    assert error["code"] == "server_unreachable"
    assert error["retryable"] is True


def test_a_key_that_may_only_look(
    local: Perdure, service: tuple[Path, Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = local("keys", "add", "looker", "--scope", "runs:read", "--json").json["token"]
    monkeypatch.setenv("PERDURE_TOKEN", token)
    monkeypatch.setenv("PERDURE_SERVER", service[1].url)
    listed = local("ps", "--all", "--json")
    assert {"rich", "who"} <= {row["run_id"] for row in listed.lines}
    assert listed.err.count("what is said here of workers may be wrong") == 1
    refused = _error(local("cancel", "who", "--json", code=2))
    assert refused["code"] == "not_permitted"


def test_completion_offers_the_runs_of_the_service(
    local: Perdure, service: tuple[Path, Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = cast(typer.Context, SimpleNamespace(params={"store": None, "server": service[1].start_url}))
    assert complete_run(context, "ric") == [("rich", "rich, completed")]
    assert complete_unfinished(context, "ric") == []
    nowhere = cast(typer.Context, SimpleNamespace(params={"server": "http://127.0.0.1:1"}))
    assert complete_run(nowhere, "") == []


# --- staying with a run -----------------------------------------------------------------------------------------------


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    """The command line in processes of its own."""
    return CommandLine(tmp_path)


def test_a_run_is_stayed_with_over_kill_9_of_the_service(perdure: CommandLine) -> None:
    with serving(perdure.folder, "flows.py") as first:
        perdure.environ["PERDURE_SERVER"] = first.start_url
        with perdure.started("run", "job", "--id", "j", "--json") as staying:
            reach(first.process, "write 2")
            first.kill()
            perdure.go()
            with serving(perdure.folder, "flows.py", port=first.port):
                out, err = staying.communicate(timeout=40)
                assert staying.returncode == 0, err
                report = json.loads(out)
    assert report["output"] == ["w1", "w2", "w3"]
    assert (report["status"], report["exit_code"], report["verified"]["ok"]) == ("completed", 0, True)
    assert [one for one in perdure.effects() if one.startswith("write")] == ["write 1", "write 2", "write 2", "write 3"]


def test_ctrl_c_leaves_the_run_to_the_service(perdure: CommandLine) -> None:
    with serving(perdure.folder, "flows.py") as found:
        perdure.environ["PERDURE_SERVER"] = found.start_url
        with perdure.started("run", "who", "--id", "w", "--patience", "1h") as staying:
            reach(staying, "run w (who) started")
            perdure.await_event("w", "wait.opened")
            ended = end(staying, signal.SIGINT)
        assert ended.code == 3
        assert "the run goes on at the service" in ended.err
        assert "perdure run who --id w" in ended.err
        with perdure.started("events", "w", "--follow", "--json") as following:
            perdure("answer", "w", "Ada")
            out, _ = following.communicate(timeout=30)
            assert [json.loads(line)["kind"] for line in out.splitlines()][-1] == "run.completed"
        with perdure.started("run", "who", "--id", "w2", "--patience", "1h") as staying:
            reach(staying, "run w2 (who) started")
            perdure.await_event("w2", "wait.opened")
            found.kill()
            away = end(staying, signal.SIGTERM)
        assert away.code == 1
        assert "look at it again with 'perdure run who --id w2'" in away.err


def test_questions_are_asked_at_the_terminal(perdure: CommandLine) -> None:
    with serving(perdure.folder, "flows.py") as found:
        perdure.environ["PERDURE_SERVER"] = found.start_url
        terminal = Terminal(perdure, "run", "publish", "-i", "topic=tides")
        terminal.reach("answer: ")
        terminal.type("yes\n")
        code, text = terminal.rest()
    assert code == 0
    assert "tides: yes" in text
