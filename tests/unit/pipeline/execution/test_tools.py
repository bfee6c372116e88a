"""Stages that run commands."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure import RunHandle, Runtime
from perdure.core.errors import RunCancelled
from perdure.pipeline.definition import Pipeline
from perdure.store.port import Store
from tests.unit.engine.evidence import witnessed
from tests.unit.engine.staging import die, memory, opened, quick, seen, until
from tests.unit.pipeline.execution.stories import Ending, ended, ending, pipeline

pytestmark = pytest.mark.time_limit(40)


def quoted(text: str) -> str:
    """As a value of the dialect."""
    return json.dumps(text, ensure_ascii=False)


def tool(command: str, attributes: str = "", after: str = 't -> exit [condition="outcome!=fail"]') -> str:
    """A pipeline of one command, which must not fail."""
    more = f", {attributes}" if attributes else ""
    return f"t [shape=parallelogram, tool_command={quoted(command)}{more}]; start -> t; {after}"


async def run(command: str, attributes: str = "", **options: Any) -> Ending:
    """Run one command, on the real clock."""
    made = pipeline(tool(command, attributes), **options)
    async with witnessed(memory(), made, limits=quick()) as runtime:
        return await ending(await runtime.start(made))


# --- what it gives ----------------------------------------------------------------------------------------------------


@pytest.mark.clause("tool-output")
async def test_what_a_command_prints_is_kept_in_the_context() -> None:
    end = await run("printf 'one\\ntwo'; echo elsewhere >&2")
    assert end.context["tool"]["output"] == "one\ntwo"
    assert end.context["tool"]["exit_code"] == 0


@pytest.mark.clause("tool-output")
async def test_bytes_that_are_no_text_are_replaced_and_output_is_bounded() -> None:
    end = await run("printf '\\377ok'; head -c 3000000 /dev/zero | tr '\\000' x")
    output = end.context["tool"]["output"]
    assert output.startswith("\ufffdok")
    assert len(output) <= 1024 * 1024 + 1000


@pytest.mark.clause("tool-exit")
async def test_an_exit_code_other_than_zero_is_a_failed_outcome_that_says_why() -> None:
    end = await run("echo 'disk is full' >&2; exit 3")
    assert end.code == "stage_failed"
    assert "exit code 3: disk is full" in end.reason


@pytest.mark.clause("tool-known")
async def test_max_retries_repeats_a_command_of_any_kind_after_its_exit_code(tmp_path: Path) -> None:
    for kind in ("idempotent", "read", "once"):
        command = f"echo x >> {kind}; test $(wc -l < {kind}) -ge 3"
        end = await run(command, f"effect={kind}, max_retries=5", directory=tmp_path)
        assert end.output is not None, kind
        assert (tmp_path / kind).read_text() == "x\n" * 3
        assert "doubt" not in str([event.data for event in end.events])


@pytest.mark.clause("tool-group", "tool-known")
@pytest.mark.parametrize("kind", ["idempotent", "read", "once"])
async def test_a_timeout_kills_the_whole_group_and_is_a_known_outcome(kind: str, tmp_path: Path) -> None:
    end = await run("sleep 60 & echo $! > child; wait", f"effect={kind}, timeout=300ms", directory=tmp_path)
    assert end.code == "stage_failed"
    assert "did not end in 0.3 s" in end.reason
    await until(lambda: not alive(int((tmp_path / "child").read_text())))


def alive(process_id: int) -> bool:
    """Does a process still run?"""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.clause("tool-group", "tool-known")
@pytest.mark.parametrize("kind", ["idempotent", "read", "once"])
async def test_a_cancel_kills_the_whole_group_and_leaves_no_doubt(kind: str, tmp_path: Path) -> None:
    made = pipeline(tool("sleep 60 & echo $! > part; mv part child; wait", f"effect={kind}"), directory=tmp_path)
    async with witnessed(memory(), made, limits=quick(cancel_grace_s=10)) as runtime:
        handle = await runtime.start(made)
        await until((tmp_path / "child").exists)
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
        events = [event async for event in handle.events(follow=False)]
        assert not next(event for event in events if event.kind == "run.cancelled").data.get("in_doubt")
        assert await runtime.questions(handle.id) == []
    await until(lambda: not alive(int((tmp_path / "child").read_text())))


@pytest.mark.clause("tool-group")
async def test_a_branch_that_lost_has_its_command_killed(tmp_path: Path) -> None:
    body = f"""f [shape=component, join_policy=first_success]; j [shape=tripleoctagon]; start -> f;
               slow [shape=parallelogram, tool_command={quoted("sleep 60 & echo $! > part; mv part child; wait")}];
               fast [shape=parallelogram, tool_command={quoted("until test -e child; do sleep 0.02; done")}];
               f -> slow -> j; f -> fast -> j; j -> exit"""
    made = pipeline(body, directory=tmp_path)
    async with witnessed(memory(), made, limits=quick()) as runtime:
        end = await ending(await runtime.start(made))
    assert end.context["parallel"]["fan_in"]["best_id"] == "fast"
    await until(lambda: not alive(int((tmp_path / "child").read_text())))


@pytest.mark.clause("tool-argv")
async def test_arguments_may_be_given_as_they_are_without_a_shell() -> None:
    argv = quoted(json.dumps(["printf", "%s|%s", "$HOME; echo", "a b"]))
    end = await ended(f"t [shape=parallelogram, tool_argv={argv}]; start -> t -> exit")
    assert end.context["tool"]["output"] == "$HOME; echo|a b"


@pytest.mark.clause("tool-off")
async def test_commands_can_be_switched_off() -> None:
    end = await run("touch here", allow_commands=False)
    assert end.code == "stage_failed"
    assert "running commands is off" in end.reason
    assert not any(event.kind == "step.intended" for event in end.events)


@pytest.mark.clause("tool-directory")
async def test_commands_run_in_the_directory_in_which_the_run_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "p [shape=hexagon]; start -> p -> t -> exit; t [shape=parallelogram, tool_command=pwd]"
    first_place, other = tmp_path / "first", tmp_path / "other"
    first_place.mkdir()
    other.mkdir()
    store = memory()
    monkeypatch.chdir(first_place)
    first = await opened(store, made := pipeline(body))
    handle = await first.start(made)
    await seen(handle, "wait.opened")
    await die(first)
    monkeypatch.chdir(other)
    async with witnessed(store, pipeline(body)) as second:
        handle = second.run(handle.id)
        await handle.answer("t")
        end = await ending(handle)
    assert end.context["tool"]["output"].strip() == str(first_place)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.clause("stage-files", "artifact-paths")
async def test_files_of_the_stage_directory_become_artifacts() -> None:
    command = 'cd "$PERDURE_STAGE_DIR"; mkdir sub; echo r > report.md; echo s > sub/s.txt'
    end = await run(command)
    assert {"t/visit-1/report.md", "t/visit-1/sub/s.txt", "t/visit-1/status.json"} <= set(end.files())


@pytest.mark.clause("stage-files")
async def test_files_of_the_stage_directory_are_bounded() -> None:
    command = (
        'cd "$PERDURE_STAGE_DIR"; for n in $(seq 1 2000); do : > file$n; done; head -c 100000000 /dev/zero > large'
    )
    end = await run(command)
    assert end.context["tool"]["exit_code"] == 0
    assert 0 < len(end.files()) < 2000
    assert "t/visit-1/large" not in end.files()


@pytest.mark.clause("status-json")
@pytest.mark.parametrize("name", ["outcome", "status"])
async def test_a_status_file_is_the_outcome_of_the_stage(name: str) -> None:
    told = {name: "fail", "failure_reason": "score too low", "context_updates": {"review.score": 3}}
    end = await run(f"echo '{json.dumps(told)}' > $PERDURE_STAGE_DIR/status.json")
    assert end.code == "stage_failed"
    assert "score too low" in end.reason


@pytest.mark.clause("status-json")
async def test_a_status_file_decides_whatever_the_exit_code_says_and_routes() -> None:
    told = {"outcome": "success", "preferred_label": "Left", "context_updates": {"review.score": 3}}
    command = f"echo '{json.dumps(told)}' > $PERDURE_STAGE_DIR/status.json; exit 1"
    after = 't -> a [label="Left"]; t -> b [weight=5]; a -> exit; b -> exit'
    end = await ended(tool(command, after=after))
    assert end.path == ["start", "t", "a", "exit"]
    assert end.context["review"] == {"score": 3}
    assert end.context["tool"]["exit_code"] == 1


@pytest.mark.clause("status-json")
@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"outcome": "great"}', "no json", '{"outcome": "fail", "status": "success"}']
)
async def test_a_status_file_that_is_no_outcome_fails_the_stage(text: str) -> None:
    end = await run(f"echo '{text}' > $PERDURE_STAGE_DIR/status.json")
    assert end.code == "stage_failed"
    assert "status.json" in end.reason


@pytest.mark.clause("status-json")
async def test_the_status_that_is_kept_names_the_outcome_by_both_words() -> None:
    made = pipeline(tool("exit 3", after='t -> exit [condition="outcome=fail"]'))
    async with witnessed(memory(), made) as runtime:
        end = await ending(await runtime.start(made))
        data = await runtime.store.get_artifact(end.files()["t/visit-1/status.json"])
    assert data is not None
    kept = json.loads(content_of(data))
    assert kept["outcome"] == kept["status"] == "fail"
    assert kept["failure_reason"] == "exit code 3"


def content_of(found: Any) -> bytes:
    """The bytes of an artifact, as a store gives it."""
    return found if isinstance(found, bytes) else bytes(found.data)


# --- crashes ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def killed_in_the_middle(
    folder: Path, command: str, attributes: str
) -> AsyncIterator[tuple[Runtime, RunHandle[Any]]]:
    """A run whose worker dies while its command waits for the file `go`; another worker has it now."""
    whole = f'echo "$PERDURE_IDEMPOTENCY_KEY" >> calls; until test -e go; do sleep 0.02; done; {command}'

    def made() -> Pipeline:
        return pipeline(tool(whole, attributes), directory=folder)

    store: Store = memory()
    first = await opened(store, one := made(), limits=quick())
    handle = await first.start(one)
    await until(lambda: (folder / "calls").exists() and (folder / "calls").read_text().endswith("\n"))
    await die(first)
    (folder / "go").touch()
    async with witnessed(store, made(), limits=quick()) as second:
        yield second, second.run(handle.id)


def calls(folder: Path) -> list[str]:
    """The keys under which the command was called."""
    return (folder / "calls").read_text().split()


@pytest.mark.clause("tool-idempotent", "ruling-running-at-crash")
async def test_an_idempotent_command_runs_again_under_the_same_key(tmp_path: Path) -> None:
    async with killed_in_the_middle(tmp_path, "true", "effect=idempotent") as (_, handle):
        assert (await ending(handle)).output is not None
    first, second = calls(tmp_path)
    assert first == second
    assert len(first) >= 16


@pytest.mark.clause("tool-idempotent", "tool-read", "ruling-running-at-crash")
async def test_a_reading_command_runs_again(tmp_path: Path) -> None:
    async with killed_in_the_middle(tmp_path, "true", "effect=read") as (_, handle):
        assert (await ending(handle)).output is not None
    assert len(calls(tmp_path)) == 2


@pytest.mark.clause("tool-once", "ruling-running-at-crash")
async def test_a_command_that_must_run_once_is_in_doubt_and_a_person_is_asked(tmp_path: Path) -> None:
    async with killed_in_the_middle(tmp_path, "true", "effect=once") as (runtime, handle):
        await seen(handle, "wait.opened")
        (question,) = await runtime.questions(handle.id)
        assert question.kind == "doubt"
        await runtime.resolve(handle.id, "not_done", step=question.wait_id)
        assert (await ending(handle)).output is not None
    assert len(calls(tmp_path)) == 2


@pytest.mark.clause("tool-once")
async def test_a_command_in_doubt_may_fail_its_stage(tmp_path: Path) -> None:
    async with killed_in_the_middle(tmp_path, "true", "effect=once, in_doubt=fail, max_retries=3") as (_, handle):
        assert (await ending(handle)).code == "stage_failed"
    assert len(calls(tmp_path)) == 1


@pytest.mark.clause("tool-once")
async def test_a_command_in_doubt_may_be_repeated_under_the_same_key(tmp_path: Path) -> None:
    async with killed_in_the_middle(tmp_path, "true", "effect=once, in_doubt=retry, timeout=1s") as (_, handle):
        end = await ending(handle)
    assert end.output is not None
    assert "step.doubted" in [event.kind for event in end.events]
    first, second = calls(tmp_path)
    assert first == second


@pytest.mark.clause("tool-environment")
async def test_a_command_is_told_its_run_its_node_and_its_key_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "hidden-value")
    end = await run("env")
    told = dict(line.partition("=")[::2] for line in end.context["tool"]["output"].splitlines())
    assert told["PERDURE_NODE"] == "t"
    assert told["PERDURE_ATTEMPT"] == "1"
    assert len(told["PERDURE_IDEMPOTENCY_KEY"]) >= 16
    assert told["PERDURE_RUN_ID"] == end.events[0].run_id
    assert "MY_API_TOKEN" not in told
    assert told["PATH"] == os.environ["PATH"]


@pytest.mark.clause("tool-once")
@pytest.mark.parametrize("resolution", ["done", "fail"])
async def test_what_a_person_says_of_a_command_in_doubt_is_not_repeated(resolution: str, tmp_path: Path) -> None:
    async with killed_in_the_middle(tmp_path, "true", "effect=once, max_retries=3") as (runtime, handle):
        await seen(handle, "wait.opened")
        (question,) = await runtime.questions(handle.id)
        await runtime.resolve(handle.id, resolution, step=question.wait_id)  # type: ignore[arg-type]
        end = await ending(handle)
    assert (end.output is not None) == (resolution == "done")
    assert len(calls(tmp_path)) == 1
