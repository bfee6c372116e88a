"""Pipelines that come over HTTP run commands, and read files, only as far as the operator says so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from perdure.core.errors import InputError, RunFailed
from perdure.pipeline.commands import AllowedPrograms, CommandMissingError
from perdure.server.pipelines import PipelineSettings, confined
from perdure.server.pipelines.confined import read_below
from tests.http.server.served import Served, served

CHILD = "digraph Child { start [shape=Mdiamond]; done [shape=Msquare]; start -> done }"
PATH = os.environ["PATH"]


def tool(attributes: str) -> str:
    """A pipeline of one tool stage; a failed one ends the run."""
    return f"""digraph Tools {{ start [shape=Mdiamond]; done [shape=Msquare]; t [shape=parallelogram, {attributes}]
        start -> t; t -> done [condition="outcome=success"] }}"""


def argv(*words: str) -> str:
    return f"tool_argv={json.dumps(json.dumps(words))}"


async def outcome(place: Served, dot: str) -> tuple[str, Any]:
    """How a pipeline ends: its status, and what its tool printed or why it failed."""
    answer = await place.client.post("/pipelines", json={"dot": dot})
    assert answer.status_code == 202, answer.text
    summary = await ended(place, answer.json()["pipeline_id"])
    run_id = summary["pipeline_id"]
    if summary["status"] == "fail":
        return "fail", summary["error"]
    context = (await place.client.get(f"/pipelines/{run_id}/context")).json()["context"]
    return summary["status"], context["tool"]["output"] if isinstance(context.get("tool"), dict) else context


async def ended(place: Served, run_id: str) -> dict[str, Any]:
    """Wait for a pipeline's end; its summary."""
    with suppress(RunFailed):
        await place.runtime.run(run_id).result()
    summary: dict[str, Any] = (await place.client.get(f"/pipelines/{run_id}")).json()
    return summary


def allowing(*programs: str) -> PipelineSettings:
    return PipelineSettings(allow_commands=AllowedPrograms.find(programs, PATH))


async def test_no_command_is_run_where_nothing_was_said(tmp_path: Path) -> None:
    async with served() as place:
        for attributes in (f'tool_command="touch {tmp_path}/here"', argv("touch", f"{tmp_path}/here")):
            status, why = await outcome(place, tool(attributes))
            assert status == "fail"
            assert "commands is off" in why
    assert list(tmp_path.iterdir()) == []


async def test_any_command_is_run_where_that_was_said() -> None:
    async with served(pipelines=PipelineSettings(allow_commands=True)) as place:
        assert await outcome(place, tool('tool_command="echo one && echo two"')) == ("success", "one\ntwo\n")
        assert await outcome(place, tool(argv("echo", "three"))) == ("success", "three\n")


async def test_only_listed_programs_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "echo"
    other.write_text("#!/bin/sh\ntouch ran\n")
    other.chmod(0o755)
    (tmp_path / "link").symlink_to("/bin/sh")
    (tmp_path / "bin").symlink_to(Path("/bin").resolve())
    monkeypatch.chdir(tmp_path)
    async with served(pipelines=allowing("echo", str(tmp_path / "link"))) as place:
        assert await outcome(place, tool(argv("echo", "one"))) == ("success", "one\n")
        assert (await outcome(place, tool(argv(f"{tmp_path}/link", "-c", "echo two"))))[1] == "two\n"
        for refused in (
            'tool_command="echo one"',
            argv("printf", "one"),
            argv("sh", "-c", "echo one"),  # where the listed link leads, by another name
            argv("/bin/sh", "-c", "echo one"),
            argv(str(other)),
            argv("./echo"),
            argv(f"{tmp_path}/bin/../echo"),
            argv("echo\x00", "one").replace("\\u0000", "\\\\u0000"),
            argv("ECHO", "one"),
            argv(" echo", "one"),
            argv("no-such-program"),
            argv("/"),
        ):
            answer = await place.client.post("/pipelines", json={"dot": tool(refused)})
            if answer.status_code == 422:
                continue  # it is not even a valid stage
            summary = await ended(place, answer.json()["pipeline_id"])
            assert summary["status"] == "fail", refused
            assert "may be run here" in summary["error"], refused
    assert not (tmp_path / "ran").exists()


async def test_a_listed_program_is_found_in_the_path_of_the_service_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = allowing("echo")
    other = tmp_path / "echo"
    other.write_text("#!/bin/sh\necho another\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{PATH}")
    async with served(pipelines=settings) as place:
        assert await outcome(place, tool(argv("echo", "one"))) == ("success", "one\n")


@pytest.mark.parametrize("program", ["no-such-program", "", "/nowhere/x", "/", ".", "a\0b", "/etc/passwd"])
def test_only_programs_can_be_listed(program: str) -> None:
    with pytest.raises(CommandMissingError):
        AllowedPrograms.find([program], PATH)


def test_a_relative_entry_of_the_path_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").write_text("#!/bin/sh\n")
    (tmp_path / "own").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in (".", "", f":{PATH}"):
        with pytest.raises(CommandMissingError):
            AllowedPrograms.find(["own"], path)


async def test_a_command_sees_no_secret_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "OPENAI_API_KEY": "canary-1",
        "PERDURE_TOKEN": "canary-2",
        "PERDURE_STORE": "canary-3",
        "AWS_SECRET_ACCESS_KEY": "canary-4",
        "LC_CANARY": "canary-5",
        "LD_PRELOAD_CANARY": "canary-6",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    async with served(pipelines=PipelineSettings(allow_commands=True)) as place:
        _, printed = await outcome(place, tool("tool_command=env"))
    assert "canary" not in printed
    names = {line.partition("=")[0] for line in printed.splitlines()}
    assert {"PATH", "PERDURE_IDEMPOTENCY_KEY", "PERDURE_RUN_ID"} <= names


# --- files of child pipelines -----------------------------------------------------------------------------------------


def with_child(file: str, more: str = "") -> str:
    return f"""digraph Parent {{ graph [stack.child_dotfile={json.dumps(file)}{more}]
        start [shape=Mdiamond]; done [shape=Msquare]; start -> m -> done
        m [shape=house, manager.poll_interval=10ms] }}"""


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A directory of pipelines, and files outside of it."""
    inside = tmp_path / "pipelines"
    (inside / "deep").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "outside.dot").write_text(CHILD)
    (tmp_path / "secret" / "child.dot").write_text(CHILD)
    (inside / "child.dot").write_text(CHILD)
    (inside / "deep" / "child.dot").write_text(CHILD.replace("Child", "Deep"))
    (inside / "good_link.dot").symlink_to("deep/child.dot")
    (inside / "bad_link.dot").symlink_to(tmp_path / "outside.dot")
    (inside / "bad_folder").symlink_to(tmp_path / "secret")
    (inside / "circle.dot").symlink_to("circle.dot")
    (inside / "up.dot").write_text(with_child("../outside.dot").replace("Parent", "Up"))
    (inside / "down.dot").write_text(with_child("deep/child.dot").replace("Parent", "Down"))
    (inside / "own.dot").write_text(with_child("own.dot").replace("Parent", "Own"))
    (inside / "workdir.dot").write_text(with_child("child.dot", ', stack.child_workdir="/tmp"').replace("Parent", "W"))
    (inside / "invalid.dot").write_text("digraph {")
    (inside / "binary.dot").write_bytes(b"\xff\xfe")
    os.mkfifo(inside / "pipe.dot")
    return inside


async def test_children_are_files_below_the_operators_directory(folders: Path) -> None:
    async with served(pipelines=PipelineSettings(directory=folders)) as place:
        for file in ("child.dot", "deep/child.dot", "good_link.dot", "deep/../child.dot", str(folders / "child.dot")):
            assert (await outcome(place, with_child(file)))[0] == "success", file
        assert (await outcome(place, with_child("down.dot")))[0] == "success"


ELSEWHERE = [
    "../outside.dot",
    "deep/../../outside.dot",
    "bad_link.dot",
    "bad_folder/child.dot",
    "circle.dot",
    "up.dot",
    "own.dot",
    "workdir.dot",
    "invalid.dot",
    "binary.dot",
    "pipe.dot",
    "deep",
    "missing.dot",
    "/etc/passwd",
    "..",
    "child.dot\\u0000",
    "a" * 5000,
    "..\\\\outside.dot",
    "%2e%2e/outside.dot",
    "~/outside.dot",
    "file:///etc/passwd",
]


async def test_what_lies_elsewhere_is_refused_and_not_read(folders: Path) -> None:
    async with served(pipelines=PipelineSettings(directory=folders)) as place:
        for file in ELSEWHERE:
            answer = await place.client.post("/pipelines", json={"dot": with_child(file)})
            assert answer.status_code == 422, f"{file}: {answer.text}"
            assert str(folders.parent) not in answer.text, file
            assert "root:" not in answer.text, file
        assert (await place.client.get("/pipelines")).json() == {"pipelines": []}


async def test_without_a_directory_there_are_no_children(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders)
    async with served() as place:
        answer = await place.client.post("/pipelines", json={"dot": with_child("child.dot")})
        assert (answer.status_code, answer.json()["field"]) == (422, "stack.child_dotfile")


async def test_a_working_directory_is_refused(folders: Path) -> None:
    async with served(pipelines=PipelineSettings(directory=folders)) as place:
        for more in (', stack.child_workdir="/tmp"', ", stack.child_workdir=deep"):
            answer = await place.client.post("/pipelines", json={"dot": with_child("child.dot", more)})
            assert (answer.status_code, answer.json()["field"]) == (422, "stack.child_workdir")


Swap = Callable[[Path], None]


def a_link(inside: Path) -> None:
    """The file becomes a link to one outside."""
    (inside / "deep" / "child.dot").unlink()
    (inside / "deep" / "child.dot").symlink_to(inside.parent / "outside.dot")


def a_linked_folder(inside: Path) -> None:
    """A folder above the file becomes a link."""
    (inside / "deep").rename(inside / "away")
    (inside / "deep").symlink_to(inside.parent / "secret")


@pytest.mark.parametrize("swap", [a_link, a_linked_folder])
def test_a_link_that_takes_a_files_place_after_the_check_leads_nowhere(
    folders: Path, monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    opened = confined._opened

    def swapped(base: Path, relative: Path) -> Any:
        swap(folders)
        return opened(base, relative)

    monkeypatch.setattr(confined, "_opened", swapped)
    with pytest.raises(InputError):
        read_below(folders, Path("deep/child.dot"))
