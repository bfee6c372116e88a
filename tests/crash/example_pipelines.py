"""The example pipelines as they are on disk, for the crash matrix, and the world in which their commands run."""

from __future__ import annotations

import asyncio
import importlib
import os
import select
import shutil
from pathlib import Path
from typing import Any

from perdure.model.request import ModelRequest
from perdure.pipeline.commands import Command, CommandResult, run_command
from perdure.pipeline.definition import Pipeline
from perdure.testing import Doubt, record_effect

EXAMPLES = Path(__file__).parents[2] / "examples"
PROJECT, WORLDS = "EXAMPLE_PROJECT", "EXAMPLE_WORLDS"
"""Variables of the environment: the folder that each world is a copy of, and where the worlds are made."""

TRACES = ("quality_report.md", "dist/releases.txt")
"""Where somebody looks who wants to know whether the step that must not happen twice has happened."""


async def model(request: ModelRequest) -> str:
    """A model whose first draft is refused by its own review."""
    record_effect("asked")
    said = [message.content for message in request.messages]
    drafts = sum(text.startswith("Draft") for text in said)
    if said[-1].startswith("Review"):
        return '{"outcome": "success"}' if drafts > 1 else '{"outcome": "fail", "failure_reason": "what is it for?"}'
    return f"Draft {drafts + 1}" if "Write the paragraph" in said[-1] else "Three points"


quality_gate = Pipeline.load(EXAMPLES / "quality_gate.dot")
release = Pipeline.load(EXAMPLES / "release.dot")
supervised = Pipeline.load(EXAMPLES / "supervised.dot")
supervised_child = supervised.children[0]
draft_review = Pipeline.load(EXAMPLES / "draft_review.dot", model=model)


def enter_world() -> None:
    """Let this process work where the processes of its point before it did: in a copy that outlives the matrix."""
    world = Path(os.environ[WORLDS]) / Path.cwd().parent.name
    if not world.exists():
        shutil.copytree(os.environ[PROJECT], world)
    os.chdir(world)
    vars(importlib.import_module("perdure.pipeline.handlers.tool"))["run_command"] = run_witnessed


async def run_witnessed(command: Command) -> CommandResult:
    """Run a command, and let the matrix kill this process while it runs: two crash points more."""
    name = f"{command.environ['PERDURE_NODE']} is running, attempt {command.environ['PERDURE_ATTEMPT']}"
    asyncio.get_running_loop().call_soon(record_effect, name)  # when `run_command` waits for what it has started
    return await run_command(command)


def look_what_happened(what: object) -> tuple[str, Any] | None:
    """What a person says of a command in doubt, who looks when it has ended: done, with null; or not done."""
    if not isinstance(what, Doubt):
        return None
    await_leftovers()
    done = any(Path(trace).exists() and Path(trace).stat().st_size for trace in TRACES)
    return ("done" if done else "not_done"), None


def await_leftovers() -> None:
    """Return when no other process works in this folder: what a killed one has started is ended by its guard."""
    while others := [pid for pid in processes_in(os.getcwd()) if pid != os.getpid()]:
        for pid in others:
            await_end(pid)


def processes_in(folder: str) -> list[int]:
    """The processes whose working directory this is."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            there = os.readlink(place / "cwd")
        except OSError:
            continue  # it has ended, or is somebody else's
        if there == folder:
            found.append(int(place.name))
    return found


def await_end(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)
