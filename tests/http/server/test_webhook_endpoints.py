"""Endpoints of webhooks: who may make them, where they may lead, and that nobody sees their secrets."""

from __future__ import annotations

import base64
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from perdure.core.errors import WebhooksUnusableError
from perdure.server import KeyRing
from perdure.server.webhooks.settings import WebhookSettings
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SQLiteStore
from tests.http.server.receivers import hook, receiver
from tests.http.server.served import served

URL = "https://hooks.example/in"
SECRET = "whsec_" + base64.b64encode(b"a secret that nobody may ever see").decode()


async def test_an_endpoint_is_made_shown_listed_changed_and_removed() -> None:
    async with served() as place:
        answer = await place.client.post("/webhooks", json={"url": URL, "events": ["run.failed"], "secret": SECRET})
        made = answer.json()
        assert (answer.status_code, made["secret"]) == (201, SECRET)
        assert answer.headers["location"] == f"/webhooks/{made['id']}"
        path = f"/webhooks/{made.pop('id')}"
        shown = (await place.client.get(path)).json()
        assert shown["id"] == path.rpartition("/")[2]
        assert (shown["url"], shown["events"], shown["enabled"]) == (URL, ["run.failed"], True)
        assert (await place.client.get("/webhooks")).json() == {"webhooks": [shown]}
        changed = await place.client.patch(path, json={"workflows": ["add"], "enabled": False})
        assert changed.json() == shown | {"workflows": ["add"], "enabled": False, "disabled": "asked"}
        changed = await place.client.patch(path, json={"events": [], "url": f"{URL}/2", "enabled": True})
        assert changed.json() == shown | {"workflows": ["add"], "events": [], "url": f"{URL}/2"}
        assert (await place.client.delete(path)).status_code == 204
        assert (await place.client.get("/webhooks")).json() == {"webhooks": []}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")], ids=lambda one: one or "-"
)
async def test_an_endpoint_that_there_is_not_is_not_found(method: str, path: str) -> None:
    async with served() as place:
        body = {} if method in ("GET", "DELETE") else {"json": {}}
        answer = await place.client.request(method, f"/webhooks/wh_nothing{path}", **body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("scope", ["runs:read", "runs:write", "questions:answer", "workers"])
async def test_only_an_administrator_may_see_or_make_endpoints(scope: str) -> None:
    ring = KeyRing.fresh()
    bearer = {"authorization": f"Bearer {ring.add('somebody', [scope])}"}
    async with served(keys=ring) as place:
        assert (await place.plain.get("/webhooks", headers=bearer)).status_code == 403
        assert (await place.plain.post("/webhooks", json={"url": URL}, headers=bearer)).status_code == 403


@pytest.mark.parametrize(
    "url", ["http://hooks.example/in", "https://canary:canary@hooks.example/in", "file:///canary", "https://h/#canary"]
)
async def test_messages_go_to_no_other_kind_of_url_and_it_is_not_repeated(url: str) -> None:
    async with served() as place:
        answer = await place.client.post("/webhooks", json={"url": url})
        assert (answer.status_code, answer.json()["ids"]) == (422, {"field": "url"})
        assert "canary" not in answer.text
        made = (await place.client.post("/webhooks", json={"url": URL})).json()
        assert (await place.client.patch(f"/webhooks/{made['id']}", json={"url": url})).status_code == 422
        assert (await place.client.get("/webhooks")).json()["webhooks"][0]["url"] == URL


@pytest.mark.parametrize(
    "given",
    [
        {"events": ["run.exploded"]},
        {"events": "run.failed"},
        {"workflows": ["no workflow"]},
        {"secret": "canary"},
        {"secret": "whsec_" + base64.b64encode(b"canary").decode()},
        {"secret": "whsec_" + base64.b64encode(b"x" * 65).decode()},
        {"surplus": 1},
    ],
)
async def test_what_makes_no_endpoint_is_refused(given: dict[str, Any]) -> None:
    async with served() as place:
        answer = await place.client.post("/webhooks", json={"url": URL} | given)
        assert answer.status_code == 422
        assert str(given.get("secret")) not in answer.text
        assert (await place.client.get("/webhooks")).json()["webhooks"] == []


async def test_there_are_not_more_endpoints_than_there_may_be() -> None:
    async with served(webhooks=WebhookSettings(most_endpoints=2)) as place:
        statuses = [(await place.client.post("/webhooks", json={"url": URL})).status_code for _ in range(3)]
        assert statuses == [201, 201, 409]


async def test_a_secret_is_shown_once_and_stands_in_no_log_event_or_error(
    store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    quick = WebhookSettings(schedule_s=(0.01,), jitter=0.0)
    async with (
        served(SQLiteStore(store_path), webhooks=quick) as place,
        receiver(lambda _: "500 Internal Server Error") as there,
    ):
        there_and_token = f"{there.url}/canary-in-the-path"
        made = await place.client.post("/webhooks", json={"url": there_and_token, "secret": SECRET})
        path = f"/webhooks/{made.json()['id']}"
        there.secrets.append(SECRET)
        await place.start("add", a=1)
        await there.has_got(2)
        rotated = (await place.client.post(f"{path}/rotate")).json()["secret"]
        seen = [(await place.client.get(one)).text for one in (path, "/webhooks", "/metrics", "/openapi.json")]
        seen.append((await place.client.patch(path, json={"enabled": True})).text)
        for secret in (SECRET, rotated, SECRET.removeprefix("whsec_")):
            assert all(secret not in text for text in [*seen, caplog.text])
        assert "500" in caplog.text
        assert "canary-in-the-path" not in caplog.text
        files = [path for path in store_path.parent.glob(f"{store_path.name}*") if path.is_file()]
        assert files
        assert all(SECRET.encode() not in path.read_bytes() for path in files)


async def test_endpoints_and_their_places_are_kept_over_a_restart(store_path: Path) -> None:
    async with receiver() as there:
        async with served(SQLiteStore(store_path)) as place:
            endpoint = await hook(place.client, there, events=["run.completed"])
            await place.start("add", a=1)
            await there.has_got(1)
            before = (await place.client.get(f"/webhooks/{endpoint}")).json()
        async with served(SQLiteStore(store_path)) as place:
            await place.start("add", a=2)
            await there.has_got(2)
            after = (await place.client.get(f"/webhooks/{endpoint}")).json()
        assert {name: after[name] for name in before if name != "delivery"} == {
            name: before[name] for name in before if name != "delivery"
        }
        assert len({one.id for one in there.got}) == 2


@pytest.mark.parametrize("damage", ["others may read it", "no json", "no endpoint"])
async def test_a_file_that_cannot_be_trusted_stops_the_start(store_path: Path, damage: str) -> None:
    async with served(SQLiteStore(store_path)) as place:
        await place.client.post("/webhooks", json={"url": URL})
    path = Path(f"{store_path}.server") / "webhooks.json"
    if damage == "others may read it":
        os.chmod(path, 0o644)
    else:
        path.write_text("{" if damage == "no json" else '[{"id": "x"}]')
    with pytest.raises(WebhooksUnusableError, match="webhooks"):
        async with served(SQLiteStore(store_path)):
            pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cursor": 1}', b'{"cursor": 1, "pending": [1]}'])
async def test_in_place_of_a_damaged_place_all_is_sent_again(store_path: Path, content: bytes) -> None:
    async with receiver() as there:
        async with served(SQLiteStore(store_path)) as place:
            endpoint = await hook(place.client, there)
            run_ids = [await place.start("add", a=number) for number in range(2)]
            await there.has_got(2)
        path = Path(f"{store_path}.server") / f"webhook-{endpoint}.json"
        assert path.exists()
        path.write_bytes(content)
        async with served(SQLiteStore(store_path)) as place:
            await there.has_got(4)
        assert sorted(one.run_id for one in there.got) == sorted(run_ids * 2)
        assert len({one.id for one in there.got}) == 2


async def test_without_endpoints_no_file_is_made(store_path: Path) -> None:
    async with served(SQLiteStore(store_path)) as place:
        run_id = await place.start("add", a=1)
        await place.reaches(run_id, "completed")
        assert (await place.client.get("/webhooks")).json() == {"webhooks": []}
    assert not Path(f"{store_path}.server").exists()


async def test_a_store_in_memory_has_endpoints_in_memory() -> None:
    async with receiver() as there:
        async with served(MemoryStore()) as place:
            await hook(place.client, there)
            await place.start("add", a=1)
            await there.has_got(1)
        async with served(MemoryStore()) as place:
            assert (await place.client.get("/webhooks")).json() == {"webhooks": []}
