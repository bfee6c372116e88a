"""Webhooks: what happens in runs is told outside, signed, at least once, and without harm to anybody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from perdure import Run, step, workflow
from perdure.core import events
from perdure.server.webhooks.settings import WebhookSettings
from perdure.store.memory import MemoryStore
from tests.http.server.receivers import OK, Got, hook, receiver
from tests.http.server.served import WORKFLOWS, Served, served

QUICK = WebhookSettings(schedule_s=(0.02, 0.05, 0.1, 0.2), jitter=0.0, timeout_s=5.0, notice_s=0.02, save_s=0.0)


@step(kind="once")
async def pay(amount: int) -> int:
    raise ConnectionError("the line was cut")


@workflow
async def doubtful(run: Run) -> int:
    """Ends in doubt."""
    return await run.step(pay, 5)


@workflow
async def large(run: Run, size: int) -> str:
    """Gives a large output."""
    return "x" * size


def failing_once() -> Callable[[Got], str]:
    seen: set[str] = set()

    def says(got: Got) -> str:
        if got.id in seen:
            return OK
        seen.add(got.id)
        return "500 Internal Server Error"

    return says


async def settled(place: Served, endpoint: str, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until an endpoint's view is as wanted; its delivery notes what an answer meant after it came."""
    async with asyncio.timeout(20):
        while True:
            shown = (await place.client.get(f"/webhooks/{endpoint}")).json()
            if enough(shown):
                return dict(shown)
            await asyncio.sleep(0.005)


async def test_each_happening_is_told_with_what_it_is_about() -> None:
    async with served(workflows=[*WORKFLOWS, doubtful], webhooks=QUICK) as place, receiver() as there:
        endpoint = await hook(place.client, there)
        done = await place.start("add", a=1, b=2)
        failed = await place.start("fails")
        asked = await place.start("ask", text="Publish it?")
        await there.has_got(3)
        assert (await place.client.post(f"/runs/{asked}/cancel")).status_code == 202
        doubt = await place.start("doubtful")
        await there.has_got(6)
        told = {(one.run_id, one.type): one.body for one in there.got}
        assert set(told) == {
            (done, "run.completed"),
            (failed, "run.failed"),
            (asked, "question.opened"),
            (asked, "run.cancelled"),
            (doubt, "step.in_doubt"),
            (doubt, "question.opened"),
        }
        completed = told[done, "run.completed"]
        assert completed["data"]["workflow"] == "add"
        assert (completed["data"]["status"], completed["data"]["output"]) == ("completed", 3)
        assert completed["data"]["omitted"] == []
        events = (await place.client.get(f"/runs/{done}/events", params={"stream": "false"})).json()["events"]
        assert completed["data"]["seq"] == events[-1]["seq"]
        assert told[failed, "run.failed"]["data"]["error"]["message"] == "it is broken"
        question = told[asked, "question.opened"]["data"]
        assert (question["text"], question["choices"]) == ("Publish it?", ["yes", "no"])
        assert question["wait_id"].startswith("q")
        assert told[asked, "run.cancelled"]["data"]["status"] == "cancelled"
        assert told[doubt, "step.in_doubt"]["data"]["step"] == "pay"
        assert told[doubt, "question.opened"]["data"]["kind"] == "doubt"
        assert len({one.id for one in there.got}) == 6
        assert all(one.asked.headers["content-type"] == "application/json" for one in there.got)
        shown = await settled(place, endpoint, lambda one: one["delivery"]["delivered"] == 6)
        assert shown["delivery"]["pending"] == shown["delivery"]["failed"] == 0


async def test_an_endpoint_is_told_only_what_it_asked_for_and_nothing_from_before() -> None:
    async with served(webhooks=QUICK) as place, receiver() as some, receiver() as all_of_it:
        before = await place.start("add", a=1)
        await place.reaches(before, "completed")
        await hook(place.client, some, events=["run.failed"], workflows=["add", "fails"])
        await hook(place.client, all_of_it)
        run_ids = [await place.start("add", a=1), await place.start("fails"), await place.start("ask")]
        await all_of_it.has_got(3)
        assert {one.run_id for one in all_of_it.got} == set(run_ids)
        [got] = await some.has_got(1)
        assert (got.run_id, got.type) == (run_ids[1], "run.failed")


async def test_what_is_large_is_left_out_and_named() -> None:
    async with served(workflows=[large], webhooks=QUICK) as place, receiver() as there:
        await hook(place.client, there)
        for size in (100, 20_000, 200_000):  # the last one is an artifact of its own
            await place.start("large", size=size)
        await there.has_got(3)
        outputs = sorted((one.body["data"].get("output", ""), one.body["data"]["omitted"]) for one in there.got)
        assert outputs == [("", ["output"]), ("", ["output"]), ("x" * 100, [])]


async def test_a_message_that_was_refused_is_sent_again_with_the_same_id_and_body() -> None:
    async with served(webhooks=QUICK) as place, receiver(failing_once()) as there:
        endpoint = await hook(place.client, there)
        run_id = await place.start("add", a=1)
        first, second = await there.has_got(2)
        assert (first.id, first.body) == (second.id, second.body)
        assert first.run_id == run_id
        assert second.at_s - first.at_s >= 0.02
        shown = await settled(place, endpoint, lambda one: one["delivery"]["pending"] == 0)
        assert (shown["delivery"]["delivered"], shown["delivery"]["failed"]) == (1, 1)
        assert shown["delivery"]["last_error"]["status"] == 500
        text = (await place.client.get("/metrics")).text
        assert 'perdure_webhook_deliveries_total{outcome="delivered"} 1' in text
        assert 'perdure_webhook_deliveries_total{outcome="failed"} 1' in text
        assert "perdure_webhooks_pending 0" in text


async def test_a_receiver_that_is_down_gets_everything_once_it_is_up() -> None:
    patient = WebhookSettings(schedule_s=(0.02,) * 500, jitter=0.0, notice_s=0.02)
    async with served(webhooks=patient) as place:
        async with receiver() as there:
            endpoint = await hook(place.client, there)
        run_ids = {await place.start("add", a=number) for number in range(5)}
        shown = await settled(place, endpoint, lambda one: one["delivery"]["failed"] >= 10)
        assert shown["delivery"]["pending"] == 5
        assert shown["delivery"]["last_error"]["error"] == "it cannot be reached"
        async with receiver(port=there.port, secrets=there.secrets) as again:
            await again.has_got(5)
            assert {one.run_id for one in again.got} == run_ids
            await settled(place, endpoint, lambda one: one["delivery"]["pending"] == 0)


async def test_messages_of_one_run_come_in_order() -> None:
    async with served(webhooks=QUICK) as place, receiver(failing_once()) as there:
        endpoint = await hook(place.client, there)
        for _ in range(5):
            run_id = await place.start("ask")
            await place.reaches(run_id, "waiting")
            await place.client.post(f"/runs/{run_id}/answer", json={"value": "yes"})
        await settled(place, endpoint, lambda one: one["delivery"]["delivered"] == 10)
        came: dict[str, list[str]] = {}
        for one in there.got:
            came.setdefault(one.run_id, []).append(one.type)
        # Each is refused once, and the later one of a run waits for the earlier one.
        assert list(came.values()) == [["question.opened"] * 2 + ["run.completed"] * 2] * 5


async def test_a_message_that_fails_holds_up_no_other() -> None:
    async with served(webhooks=QUICK) as place:

        def says(got: Got) -> str:
            return "400 Bad Request" if got.type == "run.failed" else OK

        async with receiver(says) as there:
            endpoint = await hook(place.client, there)
            bad = await place.start("fails")
            await there.has_got(2)
            good = [await place.start("add", a=number) for number in range(3)]
            shown = await settled(place, endpoint, lambda one: one["delivery"]["given_up"] == 1)
            assert [one.run_id for one in there.got].count(bad) == 5  # the first attempt, and the schedule
            assert {one.run_id for one in there.got} == {bad, *good}
            assert shown["enabled"]
            assert (shown["delivery"]["delivered"], shown["delivery"]["pending"]) == (3, 0)


async def test_an_endpoint_that_accepts_nothing_is_disabled_and_loses_nothing() -> None:
    answers = ["500 Internal Server Error"]
    async with served(webhooks=QUICK) as place, receiver(lambda _: answers[0]) as there:
        endpoint = await hook(place.client, there)
        run_id = await place.start("add", a=1)
        shown = await settled(place, endpoint, lambda one: not one["enabled"])
        assert (shown["disabled"], shown["delivery"]["pending"]) == ("exhausted", 1)
        assert len(there.got) == 5
        later = await place.start("add", a=2)
        await place.reaches(later, "completed")
        assert len(there.got) == 5
        answers[0] = OK
        changed = await place.client.patch(f"/webhooks/{endpoint}", json={"enabled": True})
        assert changed.json()["enabled"]
        await there.has_got(7)
        assert [one.run_id for one in there.got[5:]] == [run_id, later]


async def test_an_endpoint_that_is_gone_is_asked_no_more() -> None:
    async with served(webhooks=QUICK) as place, receiver(lambda _: "410 Gone") as there, receiver() as other:
        endpoint = await hook(place.client, there)
        await hook(place.client, other)
        await place.start("add", a=1)
        shown = await settled(place, endpoint, lambda one: not one["enabled"])
        assert shown["disabled"] == "gone"
        for number in range(3):
            await place.start("add", a=number)
        await other.has_got(4)
        assert len(there.got) == 1


async def test_redirects_are_not_followed() -> None:
    async with served(webhooks=QUICK) as place, receiver() as elsewhere:
        moved = f"307 Temporary Redirect\r\nlocation: {elsewhere.url}"
        async with receiver(lambda _: moved) as there:
            endpoint = await hook(place.client, there)
            await place.start("add", a=1)
            shown = await settled(place, endpoint, lambda one: not one["enabled"])
            assert shown["delivery"]["last_error"]["status"] == 307
            assert elsewhere.got == []


async def test_retry_after_is_waited_for_and_holds_back_all_messages() -> None:
    answers = ["429 Too Many Requests\r\nretry-after: 0.5", OK, OK]
    async with served(webhooks=QUICK) as place, receiver(lambda _: answers.pop(0)) as there:
        endpoint = await hook(place.client, there)
        await place.start("add", a=1)
        await settled(place, endpoint, lambda one: one["delivery"]["failed"] == 1)
        await place.start("add", a=2)
        await there.has_got(3)
        assert there.got[1].at_s - there.got[0].at_s >= 0.45


async def test_a_slow_endpoint_slows_neither_the_service_nor_others() -> None:
    async with served(webhooks=QUICK) as place, receiver(lambda _: None) as slow, receiver() as quick:
        endpoint = await hook(place.client, slow)
        await hook(place.client, quick)
        began_s = time.monotonic()
        run_ids = [await place.start("add", a=number) for number in range(50)]
        await quick.has_got(50)
        assert time.monotonic() - began_s < QUICK.timeout_s
        assert [one.run_id for one in quick.got] != []
        assert {one.run_id for one in quick.got} == set(run_ids)
        await slow.has_got(QUICK.at_once)
        shown = await settled(place, endpoint, lambda one: one["delivery"]["pending"] == 50)
        assert shown["delivery"]["delivered"] == 0
        assert len(slow.got) == QUICK.at_once


async def test_with_too_much_pending_the_feed_waits_and_nothing_is_dropped() -> None:
    narrow = WebhookSettings(schedule_s=(0.02,) * 1000, jitter=0.0, most_pending=3, notice_s=0.02)
    answers = ["503 Service Unavailable"]
    async with served(webhooks=narrow) as place, receiver(lambda _: answers[0]) as there:
        endpoint = await hook(place.client, there)
        run_ids = []
        for number in range(100):
            run_ids.append(await place.start("add", a=number))
            await place.reaches(run_ids[-1], "completed")
        shown = await settled(place, endpoint, lambda one: one["delivery"]["failed"] > 10)
        assert shown["delivery"]["pending"] < 100
        assert shown["delivery"]["behind"] > 0
        answers[0] = OK
        shown = await settled(place, endpoint, lambda one: one["delivery"]["delivered"] == 100)
        assert {one.run_id for one in there.got} == set(run_ids)
        assert (shown["delivery"]["behind"], shown["delivery"]["pending"]) == (0, 0)


async def test_during_a_rotation_both_secrets_sign_and_afterwards_the_new_one_alone() -> None:
    async with served(webhooks=QUICK) as place, receiver() as there:
        endpoint = await hook(place.client, there)
        old = there.secrets[0]
        answer = await place.client.post(f"/webhooks/{endpoint}/rotate", json={})
        assert (answer.status_code, answer.json()["secrets"]) == (200, 2)
        new = answer.json()["secret"]
        assert new != old
        for secrets in ([old], [new]):
            there.secrets[:] = secrets
            await place.start("add", a=1)
            await there.has_got(len(there.got) + 1)
        assert there.got[-1].asked.headers["webhook-signature"].count("v1,") == 2
        answer = await place.client.post(f"/webhooks/{endpoint}/rotate", json={"keep_s": 0})
        assert answer.json()["secrets"] == 1
        there.secrets[:] = [answer.json()["secret"]]
        await place.start("add", a=1)
        got = await there.has_got(3)
        assert got[-1].asked.headers["webhook-signature"].count("v1,") == 1


async def test_an_endpoint_that_was_removed_is_told_nothing_more() -> None:
    async with served(webhooks=QUICK) as place, receiver() as there, receiver() as other:
        endpoint = await hook(place.client, there)
        await hook(place.client, other)
        await place.start("add", a=1)
        await there.has_got(1)
        assert (await place.client.delete(f"/webhooks/{endpoint}")).status_code == 204
        assert (await place.client.get(f"/webhooks/{endpoint}")).status_code == 404
        assert (await place.client.delete(f"/webhooks/{endpoint}")).status_code == 404
        await place.start("add", a=1)
        await other.has_got(2)
        assert len(there.got) == 1


async def test_the_end_of_the_service_waits_for_messages_in_flight_but_not_for_ever() -> None:
    for drain_s, released in ((20.0, True), (0.2, False)):
        waiting = WebhookSettings(schedule_s=(0.02,), timeout_s=30.0, drain_s=drain_s)
        async with served(webhooks=waiting) as place, receiver(lambda _: None) as there:
            endpoint = await hook(place.client, there)
            await place.start("add", a=1)
            await there.has_got(1)
            webhooks = place.service.app.state.webhooks
            closing = asyncio.ensure_future(webhooks.close())
            await asyncio.wait({closing}, timeout=0.1)
            assert not closing.done()
            if released:
                there.answer_those_who_wait()
            async with asyncio.timeout(10):
                await closing
            outbox = webhooks.outbox(webhooks.endpoint(endpoint))
            assert (outbox.delivered, len(outbox.pending)) == ((1, 0) if released else (0, 1))


async def test_a_damaged_record_harms_no_message_about_others() -> None:
    store = MemoryStore()
    async with served(store, webhooks=QUICK) as place, receiver() as there:
        endpoint = await hook(place.client, there, events=["run.completed"])
        stopped = await place.client.patch(f"/webhooks/{endpoint}", json={"enabled": False})
        assert not stopped.json()["enabled"]
        run_ids = [await place.start("add", a=number) for number in range(3)]
        for run_id in run_ids:
            await place.reaches(run_id, "completed")
        for event, payload in ((store._runs[run_ids[0]].events[0], b"{"), (store._runs[run_ids[1]].events[-1], b"{")):
            event.payload, event._data = payload, events._UNPARSED
        await place.client.patch(f"/webhooks/{endpoint}", json={"enabled": True})
        await there.has_got(3)
        told = {one.run_id: one.body["data"]["output"] for one in there.got}
        assert told == {run_ids[0]: 1, run_ids[1]: None, run_ids[2]: 3}
