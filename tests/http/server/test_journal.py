"""A run's journal over the wire: the records exactly as they were hashed, so that others can check the chain."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import orjson
import pytest

from perdure.journal.chain import check, genesis, read_record
from perdure.store.memory import MemoryStore
from tests.http.server.served import Served, served


async def journal(place: Served, run_id: str, **query: Any) -> Any:
    answer = await place.client.get(f"/runs/{run_id}/journal", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rebuilt(record: dict[str, Any]) -> Any:
    payload = record["payload"]
    return read_record(
        record["header"].encode(), bytes.fromhex(record["salt"]), None if payload is None else payload.encode()
    )


async def test_the_chain_is_checked_from_what_goes_over_the_wire() -> None:
    async with served() as place:
        run_id = await place.start("keep", text="naïve ✓ \u0000 \u2028")
        await place.reaches(run_id, "completed")
        told = await journal(place, run_id)
        events = [rebuilt(record) for record in told["records"]]
        head = check(run_id, events)
        assert {"seq": head.seq, "hash": head.hash.hex()} == told["head"]
        stored = await place.runtime.store.read(run_id)
        assert [(one.header, one.salt, one.payload) for one in events] == [
            (one.header, one.salt, one.payload) for one in stored
        ]
        assert told["more"] is False


async def test_the_chain_is_checked_by_what_the_page_says_of_it() -> None:
    async with served() as place:
        run_id = await place.start("add", a=1)
        await place.reaches(run_id, "completed")
        previous = sha256(f"1{run_id}".encode()).digest()
        assert previous == genesis(run_id)
        told = await journal(place, run_id)
        for record in told["records"]:
            header = orjson.loads(record["header"])
            assert header["prev"] == previous.hex()
            payload = bytes.fromhex(record["salt"]) + record["payload"].encode()
            assert header["digest"] == sha256(payload).hexdigest()
            previous = sha256(record["header"].encode()).digest()
        assert told["head"]["hash"] == previous.hex()


async def test_pages_of_a_journal_follow_each_other() -> None:
    async with served() as place:
        run_id = await place.start("count", numbers=7)
        await place.reaches(run_id, "waiting")
        records: list[Any] = []
        pages = 0
        while True:
            page = await journal(place, run_id, after=records[-1]["seq"] if records else 0, limit=3)
            assert len(page["records"]) <= 3
            records += page["records"]
            pages += 1
            if not page["more"]:
                break
        assert pages == -(-len(records) // 3)
        assert check(run_id, [rebuilt(one) for one in records]).seq == page["head"]["seq"] == len(records)
        behind = await journal(place, run_id, after=10**9)
        assert (behind["records"], behind["more"], behind["head"]) == ([], False, page["head"])


async def test_an_erased_payload_is_null_and_the_rest_still_verifies() -> None:
    store = MemoryStore()
    async with served(store) as place:
        run_id = await place.start("add", a=1)
        await place.reaches(run_id, "completed")
        first = store._runs[run_id].events[0]
        first.payload = None
        told = await journal(place, run_id)
        assert told["records"][0]["payload"] is None
        assert check(run_id, [rebuilt(one) for one in told["records"]]).hash.hex() == told["head"]["hash"]


async def test_bytes_that_nobody_wrote_are_told_as_such() -> None:
    store = MemoryStore()
    async with served(store) as place:
        run_id = await place.start("add", a=1)
        await place.reaches(run_id, "completed")
        store._runs[run_id].events[1].payload = b"\xff"
        answer = await place.client.get(f"/runs/{run_id}/journal")
        assert (answer.status_code, answer.json()["code"], answer.json()["ids"]["seq"]) == (500, "corrupt_record", 2)


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=1001", "after=" + "9" * 30])
async def test_a_page_that_cannot_be_given_is_refused(query: str) -> None:
    async with served() as place:
        run_id = await place.start("add", a=1)
        assert (await place.client.get(f"/runs/{run_id}/journal?{query}")).status_code == 422
        assert (await place.client.get("/runs/nothing/journal")).status_code == 404


async def test_open_waits_are_listed_oldest_first_and_by_what_they_wait_for() -> None:
    async with served() as place:
        asking = [await place.start("ask") for _ in range(2)]
        for run_id in asking:
            await place.reaches(run_id, "waiting")
        listening = await place.start("listen")
        await place.reaches(listening, "waiting")
        told = (await place.client.get("/waits")).json()
        assert [one["run_id"] for one in told["waits"]] == [*asking, listening]
        assert told["more"] is False
        [signal] = (await place.client.get("/waits", params={"kind": "signal", "name": "go"})).json()["waits"]
        assert signal == {
            "run_id": listening,
            "workflow": "listen",
            "wait_id": signal["wait_id"],
            "kind": "signal",
            "name": "go",
            "key": None,
            "deadline_ms": None,
        }
        of_one = (await place.client.get("/waits", params={"run_id": asking[1]})).json()["waits"]
        assert [(one["run_id"], one["kind"]) for one in of_one] == [(asking[1], "question")]
        page = (await place.client.get("/waits", params={"limit": 2})).json()
        assert (len(page["waits"]), page["more"]) == (2, True)
        assert (await place.client.get("/waits", params={"kind": "patience"})).status_code == 422
        assert (await place.client.get("/waits", params={"run_id": "nothing"})).json()["waits"] == []
