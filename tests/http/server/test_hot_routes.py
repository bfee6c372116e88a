"""The routes that are asked for most: quick, and still told as everything else is."""

from __future__ import annotations

import gc
import socket
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from perdure import Runtime
from perdure.engine.services import Limits
from perdure.server import shown
from perdure.server.collecting import THRESHOLDS, collect_rarely
from perdure.server.shown import Shown
from perdure.store.sqlite import SQLiteStore
from tests.http.server.served import WORKFLOWS, served


def refuses(*_: object, **__: object) -> Any:
    """What no request is to ask for."""
    raise AssertionError("a request went to a thread")


async def test_no_request_goes_to_a_thread_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as place:
        run_id = await place.start("ask")
        await place.reaches(run_id, "waiting")
        monkeypatch.setattr(anyio.to_thread, "run_sync", refuses)
        for path in (f"/runs/{run_id}", "/runs", "/questions", f"/runs/{run_id}/state", f"/runs/{run_id}/events"):
            assert (await place.client.get(path)).status_code == 200
        assert (await place.client.post(f"/runs/{run_id}/answer", json={"value": "yes"})).status_code == 202


async def test_answers_do_not_wait_for_the_other_side_to_acknowledge_their_head() -> None:
    async with served() as place:
        assert place.service._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# --- views that are kept ----------------------------------------------------------------------------------------------


async def test_a_view_is_kept_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as place:
        run_id = await place.start("listen")
        await place.reaches(run_id, "waiting")
        first = (await place.client.get(f"/runs/{run_id}")).json()
        monkeypatch.setattr(shown, "run_view", refuses)
        assert (await place.client.get(f"/runs/{run_id}")).json() == first


async def test_a_view_is_never_older_than_what_any_process_has_committed(store_path: Path) -> None:
    async with (
        served(SQLiteStore(store_path, durability="process")) as place,
        Runtime(SQLiteStore(store_path, durability="process"), workflows=WORKFLOWS, execute=False) as other,
    ):
        run_id = await place.start("listen")
        await place.reaches(run_id, "waiting")
        seqs = [(await place.client.get(f"/runs/{run_id}")).json()["seq"]]
        for number in range(5):
            await other.signal("unheard", number, run_id=run_id)
            seqs.append((await place.client.get(f"/runs/{run_id}")).json()["seq"])
            head = await other.store.head(run_id)
            assert head is not None
            assert seqs[-1] == head.seq
        assert seqs == sorted(set(seqs))
        await other.cancel(run_id)
        await place.reaches(run_id, "cancelled")
        assert (await place.client.get(f"/runs/{run_id}")).json()["status"] == "cancelled"


async def test_a_view_tells_of_a_worker_that_has_come(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "WORKERS_S", 0.0)
    limits = Limits(concurrency=1, linger_s=1000)
    clerk = Runtime(SQLiteStore(store_path), workflows=WORKFLOWS, execute=False)
    async with clerk:
        views = Shown(clerk)
        handle = await clerk.start("listen")
        assert b"no_worker" in await views.run(handle.id)
        async with Runtime(SQLiteStore(store_path), workflows=WORKFLOWS, limits=limits):
            assert b"no_worker" not in await views.run(handle.id)


async def test_few_views_are_kept_and_no_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "MOST_KEPT", 3)
    async with served() as place:
        views: Shown = place.service.app.state.shown
        ids = [await place.start("add", a=number) for number in range(5)]
        for run_id in ids:
            await place.reaches(run_id, "completed")
            assert (await place.client.get(f"/runs/{run_id}")).json()["output"] == ids.index(run_id) + 1
        assert len(views) == 3
        long_one = await place.start("ask", text="x" * shown.LONGEST_KEPT)
        await place.reaches(long_one, "waiting")
        before = len(views)
        assert len((await place.client.get(f"/runs/{long_one}")).content) > shown.LONGEST_KEPT
        assert len(views) == before


# --- arguments that are taken by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "status", "field"),
    [
        ({}, {}, 422, "workflow"),
        ({"workflow": 5}, {}, 422, "workflow"),
        ({"workflow": "listen", "other": 1}, {}, 422, "other"),
        ({"workflow": "listen", "tags": "x"}, {}, 422, "tags"),
        ({"workflow": "listen", "profile": "loud"}, {}, 422, "profile"),
        ({"workflow": "listen"}, {"idempotency-key": "x" * 201}, 422, "idempotency-key"),
        ({"workflow": "listen", "id": "a"}, {"idempotency-key": "x"}, 422, "id"),
        ([], {}, 422, "body"),
    ],
)
async def test_what_a_start_may_not_be_is_named(body: Any, headers: dict[str, str], status: int, field: str) -> None:
    async with served() as place:
        answer = await place.client.post("/runs", json=body, headers=headers)
        told = answer.json()
        assert (answer.status_code, told.get("field") or told["ids"]["field"]) == (status, field)
        assert (await place.client.get("/runs")).json()["runs"] == []


async def test_a_start_under_a_key_is_the_same_run_however_often_it_is_sent() -> None:
    async with served() as place:
        headers, body = {"idempotency-key": "once"}, {"workflow": "listen"}
        answers = [await place.client.post("/runs", json=body, headers=headers) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["run_id"] for answer in answers}) == 1
        assert len((await place.client.get("/runs")).json()["runs"]) == 1


# --- garbage ----------------------------------------------------------------------------------------------------------


def test_what_was_loaded_is_left_out_of_later_searches_for_garbage() -> None:
    before = gc.get_threshold()
    try:
        collect_rarely()
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
