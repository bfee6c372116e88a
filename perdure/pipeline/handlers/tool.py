"""`tool`: an external command, as a step of the kind that its `effect` names."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from perdure.core.canonical import JSONValue
from perdure.core.errors import StepFailed
from perdure.core.policies import InDoubt, StepKind
from perdure.engine.current import current_step
from perdure.pipeline.commands import (
    AllowedPrograms,
    Command,
    CommandMissingError,
    CommandResult,
    CommandStatusError,
    allowed_environment,
    collect_files,
    run_command,
    status_json,
)
from perdure.pipeline.journey import failure_of, outcome_from
from perdure.pipeline.outcome import Outcome, failure
from perdure.pipeline.stage import Stage
from perdure.pipeline.winning import branch_won
from perdure.workflow.steps import Step, step

LATEST_S: Final = 24 * 3600.0
"""How long a command without a timeout may take at most, where a doubt must be waited out."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What is executed: recorded as the input of the step.

    Args:
        node: the stage's.
        argv: the program and its arguments; empty for a command of the shell.
        command: for the shell; empty for `argv`.
        directory: where it runs.
        timeout_s: how long it may take.
    """

    node: str
    argv: tuple[str, ...]
    command: str
    directory: str
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a command did: recorded as the result of the step.

    Args:
        result: exit code, output, duration.
        files: that it left in its stage directory, by path.
        cancelled: it was killed because the run, or its branch, was cancelled.
    """

    result: CommandResult
    files: dict[str, bytes] = field(default_factory=dict)
    cancelled: bool = False


async def run_tool(stage: Stage) -> Outcome:
    """Run the command. An exit code other than 0 is a failed outcome; `status.json`, if it wrote one, decides."""
    settings = stage.settings
    own = stage.context.get_own("run")
    directory = str(own["directory"]) if isinstance(own, dict) else str(Path.cwd())
    refusal = _refusal(stage, directory)
    if refusal is not None:
        return failure(refusal, retryable=False)
    call = ToolCall(
        stage.id,
        settings.tool_argv,
        "" if settings.tool_argv else settings.tool_command,
        directory,
        settings.timeout_s,
    )
    execution = _step_for(settings.effect, settings.in_doubt, settings.timeout_s, _allowed(stage))
    try:
        done = await stage.run.step(execution, call)
    except StepFailed as error:  # what an earlier tool left in the context is not this one's
        return failure_of(error).with_updates({"tool.output": "", "tool.exit_code": None, "last_stage": stage.id})
    if done is None:
        return Outcome(context_updates={"last_stage": stage.id}, notes="in doubt; a person says: done")
    for name, data in done.files.items():
        if name != "status.json":
            stage.keep(name, data)
    return _outcome(stage, done)


def _refusal(stage: Stage, directory: str) -> str | None:
    """Why the command is not run, if it is not."""
    allowed, settings = stage.pipeline.allow_commands, stage.settings
    if allowed is False:
        return "running commands is off for this pipeline"
    if not settings.tool_argv and not settings.tool_command:
        return "the tool has neither tool_command nor tool_argv"
    if isinstance(allowed, AllowedPrograms):
        if not settings.tool_argv:
            return "only listed programs may be run here: tool_argv, no tool_command"
        if allowed.place(settings.tool_argv[0], Path(directory)) is None:
            return f"the program {settings.tool_argv[0][:200]!r} is none of those that may be run here"
    return None


def _allowed(stage: Stage) -> AllowedPrograms | None:
    """The list of programs; `None` where there is none."""
    allowed = stage.pipeline.allow_commands
    return allowed if isinstance(allowed, AllowedPrograms) else None


@cache
def _step_for(
    kind: StepKind, in_doubt: InDoubt, timeout_s: float | None, allowed: AllowedPrograms | None
) -> Step[[ToolCall], ToolResult | None]:
    """The step that runs commands of one kind. The command's own timeout comes first: that is a known outcome."""
    options: dict[str, Any] = {}
    if kind == "once":
        options = {"in_doubt": in_doubt, "timeout": (timeout_s or LATEST_S) + 30.0}

    @step(kind=kind, name="tool", **options)
    async def tool(call: ToolCall) -> ToolResult | None:  # nothing: a person says that it was done
        return await _execute(call, allowed, answers_a_cancel=kind == "once")

    return tool


async def _execute(call: ToolCall, allowed: AllowedPrograms | None, *, answers_a_cancel: bool) -> ToolResult:
    info = current_step()
    argv = call.argv
    if allowed is not None:  # executed is what was looked at, whatever the PATH says by then
        place = allowed.place(argv[0], Path(call.directory)) if argv else None
        if place is None:
            raise CommandMissingError(f"the program {argv[:1]!r} is none of those that may be run here")
        argv = (place, *argv[1:])
    told = {
        "PERDURE_IDEMPOTENCY_KEY": info.idempotency_key,
        "PERDURE_RUN_ID": info.run_id,
        "PERDURE_NODE": call.node,
        "PERDURE_ATTEMPT": str(info.attempt),
    }
    with tempfile.TemporaryDirectory(prefix="perdure-stage-") as folder:
        stage_dir = Path(folder)
        command = Command(
            argv=argv or None,
            shell=call.command or None,
            cwd=Path(call.directory),
            environ=allowed_environment(os.environ, {**told, "PERDURE_STAGE_DIR": folder}),
            timeout_s=call.timeout_s,
            stage_dir=stage_dir,
        )
        try:
            result = await (_unless_won(command) if answers_a_cancel else run_command(command))
        except asyncio.CancelledError:
            if not answers_a_cancel:
                raise
            return ToolResult(_KILLED, cancelled=True)  # the group is gone: that is known, nothing is in doubt
        return ToolResult(result, dict(collect_files(stage_dir)))


async def _unless_won(command: Command) -> CommandResult:
    """Run a command that the engine does not cancel for the sake of other branches.

    Raises:
        asyncio.CancelledError: it was killed, because another branch has won or the run is cancelled.
    """
    running = asyncio.ensure_future(run_command(command))
    won = [asyncio.ensure_future(event.wait()) for event in branch_won.get()]
    try:
        await asyncio.wait((running, *won), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in won:
            waiting.cancel()
        if not running.done():
            running.cancel()
            await asyncio.wait((running,))
    return running.result()


_KILLED: Final = CommandResult(
    exit_code=None,
    signal=9,
    timed_out=False,
    stdout="",
    stderr="",
    stdout_bytes=0,
    stderr_bytes=0,
    stdout_dropped=0,
    stderr_dropped=0,
    duration_s=0.0,
)


def _outcome(stage: Stage, done: ToolResult) -> Outcome:
    result = done.result
    updates: dict[str, JSONValue] = {
        "tool.output": result.stdout,
        "tool.exit_code": result.exit_code,
        "tool.duration_s": round(result.duration_s, 3),
        "last_stage": stage.id,
    }
    if done.cancelled:
        return failure("the command was killed by a cancel", retryable=False).with_updates(updates)
    if result.timed_out:
        found = failure(f"the command did not end in {stage.settings.timeout_s:g} s")
    else:
        found = _by_status(done.files) or _by_exit_code(result)
    return _with_output(found.with_updates(updates), result.stdout)


def _with_output(outcome: Outcome, output: str) -> Outcome:
    return Outcome(
        outcome.status,
        outcome.preferred_label,
        outcome.suggested_next_ids,
        outcome.context_updates,
        outcome.notes,
        outcome.failure_reason,
        outcome.retryable,
        output,
    )


def _by_status(files: Mapping[str, bytes]) -> Outcome | None:
    """What the command itself said of its outcome."""
    try:
        found = status_json(files)
    except CommandStatusError as error:
        return failure(error.message, retryable=False)
    return None if found is None else outcome_from(found)


def _by_exit_code(result: CommandResult) -> Outcome:
    if result.exit_code == 0:
        return Outcome()
    if result.exit_code is None:
        return failure(f"the command was ended by signal {result.signal}")
    last = next((line for line in reversed(result.stderr.splitlines()) if line.strip()), "")
    reason = f"exit code {result.exit_code}" + (f": {last.strip()[:200]}" if last else "")
    return failure(reason, retryable=result.exit_code != 127)
