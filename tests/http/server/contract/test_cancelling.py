"""Cancel and resume: what is gone when a cancel is answered, and which stage a resume begins with."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.http.server.contract.pipelines import GATE, graph, pipelines

ADMITTED = {"status": "running", "recovery_action": "checkpoint_resume", "resumed_from_status": "cancelled"}
NOT_CANCELLED = "checkpoint resume is only admitted for the selected cancelled packet"


def command(text: str, **attributes: str) -> str:
    """A stage `t` that runs a command."""
    quoted = text.replace('"', '\\"')
    more = "".join(f", {name}={value}" for name, value in attributes.items())
    return f't [shape=parallelogram, tool_command="{quoted}"{more}];'


def pipe(folder: Path, name: str) -> Path:
    """A named pipe: who reads it waits until somebody writes."""
    os.mkfifo(folder / name)
    return folder / name


async def told(path: Path) -> str:
    """What somebody writes to a pipe, once they do."""
    return (await asyncio.to_thread(path.read_text)).strip()


async def test_a_command_that_ends_at_its_sigterm_is_let_to_within_a_second(tmp_path: Path) -> None:
    begun = pipe(tmp_path, "begun")
    text = (
        f"trap 'sleep 0.7; echo clean > {tmp_path}/end; exit 0' TERM; echo $$ > {begun}; while :; do sleep 0.05; done"
    )
    async with pipelines(commands=True) as place:
        run = await place.start(graph(f"{command(text)} start -> t -> done"))
        await told(begun)
        assert await place.post(run, "/cancel") == (202, {"pipeline_id": run, "status": "cancelled"})
        assert (tmp_path / "end").read_text() == "clean\n"


async def test_a_command_that_ignores_its_sigterm_is_killed_with_all_that_it_began(tmp_path: Path) -> None:
    begun = pipe(tmp_path, "begun")
    text = f"trap '' TERM; sleep 300 & echo $$ $! > {begun}; wait; sleep 300"
    async with pipelines(commands=True) as place:
        run = await place.start(graph(f"{command(text)} start -> t -> done"))
        pids = (await told(begun)).split()
        assert len(pids) == 2
        assert await place.post(run, "/cancel") == (202, {"pipeline_id": run, "status": "cancelled"})
        assert (await place.get(run))["status"] == "cancelled"
        assert [pid for pid in pids if is_alive(pid)] == []


async def test_the_processes_of_a_child_pipeline_are_gone_too(tmp_path: Path) -> None:
    begun = pipe(tmp_path, "begun")
    text = f"trap '' TERM; echo $$ > {begun}; sleep 300; sleep 300"
    (tmp_path / "child.dot").write_text(graph(f"{command(text)} start -> t -> done"))
    dot = graph('graph [stack.child_dotfile="child.dot"] c [shape=house]; start -> c -> done')
    async with pipelines(commands=True, directory=tmp_path) as place:
        run = await place.start(dot)
        pid = await told(begun)
        assert (await place.post(run, "/cancel"))[0] == 202
        assert not is_alive(pid)


def is_alive(pid: str) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_cancel_needs_no_body_and_takes_any() -> None:
    async with pipelines() as place:
        for body in (None, {}, {"reason": "enough"}):
            run = await place.start(GATE)
            await place.asked(run)
            sent = {} if body is None else {"json": body}
            answer = await place.client.post(f"/pipelines/{run}/cancel", **sent)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()) == (202, {"pipeline_id": run, "status": "cancelled"})
            assert (await place.events(run))[-1]["error"] == "cancelled"


async def test_the_stage_that_a_cancel_cut_off_starts_again_and_no_other(tmp_path: Path) -> None:
    begun, count = pipe(tmp_path, "begun"), tmp_path / "count"
    text = f"echo x >> {count}; test -f {tmp_path}/go || {{ echo > {begun}; sleep 300; }}"
    dot = graph(f"a [prompt=a]; ask [shape=hexagon]; {command(text)} start -> a -> ask -> t -> done")
    async with pipelines(commands=True) as place:
        run = await place.start(dot)
        question = await place.asked(run)
        await place.answer(run, question["id"], True)
        await told(begun)
        await place.post(run, "/cancel")
        checkpoint = await place.checkpoint(run)
        assert (checkpoint["current_node"], checkpoint["next_node"]) == ("ask", "t")
        assert checkpoint["context"]["human"]["answers"] == {"ask": "T"}
        (tmp_path / "go").touch()
        tried = await asyncio.gather(*(place.post(run, "/resume") for _ in range(4)))
        assert sorted(tried, key=lambda one: one[0]) == [
            (202, {"pipeline_id": run, **ADMITTED}),
            *[(409, {"error": NOT_CANCELLED})] * 3,
        ]
        assert (await place.ended(run))["status"] == "success"
        assert count.read_text().split() == ["x", "x"]
        records = await place.events(run)
        started = [one["name"] for one in records if one["type"] == "StageStarted"]
        assert started == ["start", "a", "ask", "t", "done"]  # one a visit
        kinds = [one["type"] for one in records]
        at = kinds.index("PipelineFailed")
        assert kinds[at : at + 4] == ["PipelineFailed", "PipelineResumeStarted", "CheckpointSaved", "StageCompleted"]
        assert [kinds.count(kind) for kind in ("PipelineFailed", "PipelineResumeStarted")] == [1, 1]
        assert (await place.checkpoint(run))["completed_nodes"] == started


async def test_a_cancel_stops_the_timer_of_a_question_that_may_still_be_answered() -> None:
    dot = graph("""ask [shape=hexagon, human.timeout=200ms, human.default_choice=x]; x [prompt=x];
        start -> ask; ask -> x [label=go]; ask -> done [label=skip]; x -> done""")
    async with pipelines() as place:
        run = await place.start(dot)
        question = await place.asked(run)
        await place.post(run, "/cancel")
        await asyncio.sleep(0.3)  # the deadline passes: that nothing happens then has no event
        assert await place.questions(run) == [question]
        assert (await place.answer(run, question["id"], "skip"))[0] == 202
        for context in (await place.context(run), (await place.checkpoint(run))["context"]):
            assert context["human"] == {"gate": {"selected": "S", "label": "skip"}, "answers": {"ask": "S"}}
        assert await place.questions(run) == []
        assert (await place.get(run))["pending_questions"] == 0
        kinds = [one["type"] for one in await place.events(run)]
        assert kinds[-3:] == ["PipelineFailed", "InterviewCompleted", "PipelineQuestionsUpdated"]
        assert (await place.post(run, "/resume"))[0] == 202
        assert (await place.ended(run))["status"] == "success"
        assert "x" not in (await place.checkpoint(run))["completed_nodes"]


async def test_a_run_that_is_cancelled_and_resumed_twice_keeps_both_answers() -> None:
    dot = graph("a [shape=hexagon]; b [shape=hexagon]; start -> a -> b -> done")
    async with pipelines() as place:
        run = await place.start(dot)
        for count in (1, 2):
            question = await place.asked(run, count)
            await place.post(run, "/cancel")
            assert (await place.get(run))["resume_ready"] is False  # a question is open
            await place.answer(run, question["id"], True)
            assert (await place.get(run))["recovery"]["state"] == "available"
            assert await place.post(run, "/resume") == (202, {"pipeline_id": run, **ADMITTED})
        assert (await place.ended(run))["status"] == "success"
        assert (await place.context(run))["human"]["answers"] == {"a": "B", "b": "D"}


async def test_a_paused_run_is_running_and_is_cancelled_like_any() -> None:
    async with pipelines() as place:
        run = await place.start(GATE)
        await place.asked(run)
        assert (await place.client.post(f"/runs/{run}/pause", json={})).status_code == 202
        assert (await place.get(run))["status"] == "running"
        assert await place.post(run, "/cancel") == (202, {"pipeline_id": run, "status": "cancelled"})


async def test_a_resume_whose_child_pipeline_is_gone_says_so_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "child.dot").write_text(graph("start -> done"))
    dot = graph(
        'graph [stack.child_dotfile="child.dot"] ask [shape=hexagon]; c [shape=house]; start -> ask -> c -> done'
    )
    async with pipelines(directory=tmp_path) as place:
        run = await place.start(dot)
        question = await place.asked(run)
        await place.post(run, "/cancel")
        await place.answer(run, question["id"], True)
        (tmp_path / "child.dot").unlink()
        field = "stack.child_dotfile"
        refused = {"error": f"{field} must be a pipeline's file below --pipelines DIR", "field": field}
        assert await place.post(run, "/resume") == (422, refused)
        assert (await place.get(run))["status"] == "cancelled"
