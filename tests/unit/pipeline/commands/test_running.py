"""What a command's result says."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import tracemalloc
from pathlib import Path

import pytest

from perdure.core.values import codec_for
from perdure.pipeline.commands import (
    Command,
    CommandFolderError,
    CommandInvalidError,
    CommandLostError,
    CommandMissingError,
    CommandNotExecutableError,
    CommandResult,
    CommandStartError,
    CommandTooLongError,
    exits,
    running,
)
from perdure.pipeline.commands.output import KEPT_BYTES
from tests.unit.pipeline.commands.commands import children, command, open_descriptors, run

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


async def test_the_exit_code_and_both_streams_are_told(tmp_path: Path) -> None:
    result = await run(tmp_path, shell="echo one; echo two >&2; exit 3")
    assert (result.exit_code, result.signal, result.timed_out, result.succeeded) == (3, None, False, False)
    assert (result.stdout, result.stderr) == ("one\n", "two\n")
    assert (result.stdout_bytes, result.stderr_bytes, result.stdout_dropped, result.stderr_dropped) == (4, 4, 0, 0)
    assert 0 < result.duration_s < 30


async def test_a_command_that_ends_with_zero_has_succeeded(tmp_path: Path) -> None:
    assert (await run(tmp_path, argv=("true",))).succeeded


async def test_arguments_are_passed_as_they_are(tmp_path: Path) -> None:
    result = await run(tmp_path, argv=("printf", "%s|", "a b", "$HOME", "", "'*'"))
    assert result.stdout == "a b|$HOME||'*'|"


async def test_a_signal_that_ends_it_is_told(tmp_path: Path) -> None:
    result = await run(tmp_path, shell="kill -s SEGV $$")
    assert (result.exit_code, result.signal, result.timed_out) == (None, signal.SIGSEGV, False)


async def test_it_works_in_its_folder_with_an_empty_standard_input(tmp_path: Path) -> None:
    result = await run(tmp_path, shell="pwd -P; cat; echo end")
    assert result.stdout == f"{tmp_path.resolve()}\nend\n"


async def test_a_relative_program_is_found_in_the_folder(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    assert (await run(tmp_path, argv=("./tool",))).stdout == "here\n"


async def test_it_leads_a_session_of_its_own(tmp_path: Path) -> None:
    result = await run(tmp_path, shell="cut -d' ' -f1,5,6 /proc/$$/stat")
    process, group, session = result.stdout.split()
    assert process == group == session


# --- output -----------------------------------------------------------------------------------------------------------


async def test_of_much_output_the_first_part_is_kept_and_the_rest_counted(tmp_path: Path) -> None:
    size = 50 * 1024 * 1024
    tracemalloc.start()
    try:
        result = await run(tmp_path, shell=f"printf begin; head -c {size} /dev/zero | tr '\\0' x; echo end >&2")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.succeeded
    assert result.stdout == "begin" + "x" * (KEPT_BYTES - 5)
    assert (result.stdout_bytes, result.stdout_dropped) == (size + 5, size + 5 - KEPT_BYTES)
    assert result.stderr == "end\n"
    assert most < 12 * 1024 * 1024


async def test_output_that_is_no_text_can_be_recorded(tmp_path: Path) -> None:
    result = await run(tmp_path, shell=r"printf 'a\000b\377c\355\240\200d'")
    assert result.stdout == f"a{REPLACEMENT}b{REPLACEMENT}c{REPLACEMENT * 3}d"
    assert (result.stdout_bytes, result.stdout_dropped) == (9, 0)


@pytest.mark.parametrize("source", ["/dev/zero", "/dev/urandom"])
async def test_the_largest_result_comes_back_from_the_journal_as_it_was(tmp_path: Path, source: str) -> None:
    result = await run(tmp_path, shell=f"head -c 2000000 {source}; head -c 2000000 {source} >&2")
    codec = codec_for(CommandResult)
    assert codec.load(codec.dump(result)) == result


async def test_a_character_that_the_bound_cuts_is_left_out(tmp_path: Path) -> None:
    result = await run(tmp_path, shell=f"head -c {KEPT_BYTES - 1} /dev/zero | tr '\\0' x; printf 'äb'")
    assert result.stdout == "x" * (KEPT_BYTES - 1)
    assert (result.stdout_bytes, result.stdout_dropped) == (KEPT_BYTES + 2, 3)


async def test_output_that_ends_in_the_middle_of_a_character_shows_it(tmp_path: Path) -> None:
    result = await run(tmp_path, shell=r"printf 'x\303'")
    assert (result.stdout, result.stdout_dropped) == (f"x{REPLACEMENT}", 0)


async def test_what_reads_its_output_behind_it_may_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SETTLE_S", 30.0)
    script = "mkfifo gate; (read -r line < gate; echo $line) & (echo late > gate) & echo early"
    result = await run(tmp_path, shell=script)
    assert sorted(result.stdout.split()) == ["early", "late"]
    assert result.duration_s < 20


# --- commands that cannot be run --------------------------------------------------------------------------------------


async def test_a_missing_program_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(CommandMissingError) as caught:
        await run(tmp_path, argv=("no-such-program", "x"))
    assert caught.value.code == "command_missing"
    assert not caught.value.retryable
    assert "no-such-program" in caught.value.message


async def test_a_program_that_the_shell_does_not_find_is_flagged(tmp_path: Path) -> None:
    result = await run(tmp_path, shell="no-such-program")
    assert (result.exit_code, result.missing) == (127, True)


async def test_the_exit_code_127_of_a_program_says_nothing(tmp_path: Path) -> None:
    result = await run(tmp_path, argv=("/bin/sh", "-c", "exit 127"))
    assert (result.exit_code, result.missing) == (127, False)


@pytest.mark.parametrize(("mode", "text"), [(0o644, "#!/bin/sh\n"), (0o755, "not a program")])
async def test_a_file_that_cannot_be_executed_is_its_own_error(tmp_path: Path, mode: int, text: str) -> None:
    (tmp_path / "tool").write_text(text)
    (tmp_path / "tool").chmod(mode)
    with pytest.raises(CommandNotExecutableError):
        await run(tmp_path, argv=("./tool",))


async def test_a_script_without_its_interpreter_is_missing(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/no/such/interpreter\n")
    (tmp_path / "tool").chmod(0o755)
    with pytest.raises(CommandMissingError, match="interpreter"):
        await run(tmp_path, argv=("./tool",))


@pytest.mark.parametrize("form", [{"argv": ("true", "x" * 3_000_000)}, {"shell": ": " + "x" * 3_000_000}])
async def test_arguments_that_are_too_long_are_their_own_error(tmp_path: Path, form: dict[str, object]) -> None:
    with pytest.raises(CommandTooLongError):
        await run(tmp_path, **form)


async def test_a_missing_folder_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(CommandFolderError, match="nowhere"):
        await run(tmp_path / "nowhere", argv=("true",))


async def test_a_stage_folder_that_cannot_be_made_is_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandFolderError, match="stage"):
        await run(tmp_path, argv=("true",), stage_dir=tmp_path / "file" / "stage")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"argv": ()},
        {"argv": ("",)},
        {"shell": " \n"},
        {"argv": ("true",), "shell": "true"},
        {"shell": "true", "timeout_s": 0.0},
        {"shell": "true", "timeout_s": float("nan")},
    ],
)
def test_what_is_no_command_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(CommandInvalidError):
        command(tmp_path, **fields)


@pytest.mark.parametrize(
    "fields",
    [{"argv": ("echo", "a\0b")}, {"argv": ("echo", "\ud800")}, {"argv": ("env",), "environ": {"A=B": "c", "PATH": ""}}],
)
async def test_what_no_program_can_be_given_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(CommandInvalidError):
        await run(tmp_path, **fields)


async def test_a_system_without_room_may_have_some_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", full)
    with pytest.raises(CommandStartError) as caught:
        await run(tmp_path, argv=("true",))
    assert caught.value.retryable


async def test_an_exit_status_that_somebody_took_is_not_taken_for_success(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(CommandLostError):
            await run(tmp_path, shell="exit 1")
    finally:
        signal.signal(signal.SIGCHLD, before)


# --- environment and stage folder -------------------------------------------------------------------------------------


async def test_the_environment_is_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hidden")
    result = await run(tmp_path, argv=("/usr/bin/env",), environ={"A": "b"})
    lines = result.stdout.splitlines()
    assert "A=b" in lines
    assert [line.partition("=")[0] for line in lines] == ["A", "PERDURE_COMMAND_ID"]


async def test_the_stage_folder_is_made_and_told(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    result = await run(
        tmp_path, shell='echo hi > "$PERDURE_STAGE_DIR/note"; echo "$PERDURE_STAGE_DIR"', stage_dir=folder
    )
    assert result.stdout == f"{folder}\n"
    assert (folder / "note").read_text() == "hi\n"


# --- what is left in this process -------------------------------------------------------------------------------------


async def test_many_commands_at_once_leave_no_process_and_no_descriptor(tmp_path: Path) -> None:
    await run(tmp_path, argv=("true",))
    before = (open_descriptors(), children())
    forms = [{"shell": f"echo {number}; sleep 100 & exit {number % 3}"} for number in range(14)]
    forms += [{"shell": "sleep 100", "timeout_s": 0.1}] * 3
    results = await asyncio.gather(*(run(tmp_path, **form) for form in forms), return_exceptions=True)
    failed = await asyncio.gather(*(run(tmp_path, argv=("no-such-program",)) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, CommandMissingError) for one in failed)
    done = [one for one in results if isinstance(one, CommandResult)]
    assert [one.exit_code for one in done[:14]] == [number % 3 for number in range(14)]
    assert [one.timed_out for one in done[14:]] == [True] * 3
    assert (open_descriptors(), children()) == before


def test_it_runs_in_a_loop_of_another_thread(tmp_path: Path) -> None:
    codes: list[int | None] = []
    thread = threading.Thread(target=lambda: codes.append(asyncio.run(run(tmp_path, shell="exit 4")).exit_code))
    thread.start()
    thread.join()
    assert codes == [4]


async def test_it_runs_where_the_system_gives_no_descriptor_for_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    asked: list[int] = []
    waiting = exits._wait

    def wait(process_id: int, *rest: object) -> None:
        asked.append(process_id)
        waiting(process_id, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(exits, "_wait", wait)
    result = await run(tmp_path, shell="sleep 100", timeout_s=0.1)
    assert result.timed_out
    assert len(asked) == 2  # the command and its guard


async def test_no_descriptor_of_this_process_reaches_the_command(tmp_path: Path) -> None:
    with (tmp_path / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        result = await run(tmp_path, argv=("/bin/ls", "-l", "/proc/self/fd"))
    kinds = [line.split()[-3] for line in result.stdout.splitlines() if "->" in line]
    assert kinds == ["0", "1", "2", "3"]  # 3 is the folder that `ls` reads


def test_a_command_is_plain_data(tmp_path: Path) -> None:
    one = Command(cwd=tmp_path, shell="true", environ={})
    assert one == Command(cwd=tmp_path, shell="true", environ={})
    assert one.arguments == ("/bin/sh", "-c", "true")
