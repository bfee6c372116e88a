"""Nothing is served to whom it is not for: every route of the app, and each refusal of the gate."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from perdure import Runtime
from perdure.core.errors import InputError, StoreClosedError
from perdure.server import SCOPES, KeyRing, Service, Settings
from perdure.server.admission.access import scope_for
from perdure.store.memory import MemoryStore
from tests.http.server.served import JSON, served

OPEN = {("GET", "/healthz"), ("GET", "/readyz")}


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method and path that the application's OpenAPI document or its router knows."""
    found = {("GET", "/openapi.json")}
    for path, methods in app.openapi()["paths"].items():
        found |= {(method.upper(), path) for method in methods}
    for route in app.routes:
        if isinstance(route, APIRoute):
            found |= {(method, route.path) for method in route.methods}
    for method, path in sorted(found):
        yield method, path.replace("{", "").replace("}", "")


def keys_with_one_scope_each() -> tuple[KeyRing, dict[str, str]]:
    ring = KeyRing.fresh()
    return ring, {scope: ring.add(scope.replace(":", "_"), [scope]) for scope in SCOPES}


async def test_every_route_asks_for_a_key_with_its_scope() -> None:
    ring, tokens = keys_with_one_scope_each()
    async with served(keys=ring) as place:
        routes = list(routes_of(place.service.app))
        assert len(routes) > 25
        assert set(routes) >= OPEN

        async def status(method: str, path: str, token: str | None) -> int:
            headers = {"authorization": f"Bearer {token}"} if token is not None else {}
            return (await place.plain.request(method, path, headers=headers)).status_code

        for method, path in routes:
            about = f"{method} {path}"
            if (method, path) in OPEN:
                assert await status(method, path, None) == 200, about
                continue
            assert await status(method, path, None) == 401, about
            assert await status(method, path, "pd_wrong") == 401, about
            assert await status(method, path, "a b") == 401, about
            needed = scope_for(method, path)
            for scope, token in tokens.items():
                answered = await status(method, path, token)
                assert (answered == 403) == (scope not in (needed, "admin")), f"{about} with {scope}: {answered}"
                assert answered != 401, f"{about} with {scope}"
                assert answered < 500, f"{about} with {scope}: {answered}"


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/runs", "runs:read"),
        ("GET", "/openapi.json", "runs:read"),
        ("GET", "/metrics", "runs:read"),
        ("GET", "/runs/r/artifacts/x", "runs:read"),
        ("POST", "/runs", "runs:write"),
        ("POST", "/runs/r/cancel", "runs:write"),
        ("DELETE", "/runs/r", "runs:write"),
        ("POST", "/runs/r/questions/q/answer", "questions:answer"),
        ("POST", "/pipelines/r/questions/q/answer", "questions:answer"),
        ("POST", "/answer", "questions:answer"),
        ("GET", "/workers", "workers"),
        ("POST", "/workers/w/drain", "workers"),
        ("GET", "/webhooks", "admin"),
        ("POST", "/webhooks", "admin"),
        ("GET", "/webhooks/w", "admin"),
        ("PATCH", "/webhooks/w", "admin"),
        ("POST", "/webhooks/w/rotate", "admin"),
        ("DELETE", "/webhooks/w", "admin"),
    ],
)
def test_each_kind_of_request_needs_its_scope(method: str, path: str, scope: str) -> None:
    assert scope_for(method, path) == scope


@pytest.mark.parametrize("path", ["/healthz/", "/healthz/x", "//healthz", "/HEALTHZ", "/nothing", "/runs/../healthz"])
async def test_what_only_resembles_an_open_route_is_not_open(path: str) -> None:
    async with served() as place:
        assert b" 401 " in (await place.raw(get(path))).splitlines()[0]
        assert b" 401 " in (await place.raw(get("/healthz", method="POST"))).splitlines()[0]


def get(path: str, host: str = "localhost", *, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n".encode()


async def test_an_unknown_route_is_not_found_by_who_may_ask() -> None:
    async with served() as place:
        answer = await place.client.get("/nothing")
        assert (answer.status_code, answer.json()) == (404, {"error": "not found"})
        assert (await place.plain.get("/nothing")).status_code == 401


async def test_every_answer_bears_the_headers_that_bind_browsers() -> None:
    async with served() as place:
        run_id = await place.start("add", a=1)
        for answer in (
            await place.plain.get("/healthz"),
            await place.plain.get("/runs"),
            await place.client.get(f"/runs/{run_id}"),
            await place.client.get("/nothing"),
            await place.client.post("/runs", content=b"{"),
        ):
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "access-control-allow-origin" not in answer.headers


async def test_an_error_of_a_route_is_told_in_no_detail_and_harms_no_other_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served() as place:
        monkeypatch.setattr(place.runtime, "stats", None)  # what the route of the metrics calls
        answer = await place.client.get("/metrics")
        assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await place.client.get("/runs")).status_code == 200


# --- hosts and origins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9999", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:80", 200),
        ("evil.example", 400),
        ("evil.example:80", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1@evil.example", 400),
        ("[::1].evil.example", 400),
    ],
)
async def test_only_allowed_hosts_are_served(host: str, status: int) -> None:
    async with served(open_to_all=True) as place:
        assert (await place.raw(get("/healthz", host))).split()[1] == str(status).encode()
        assert (await place.raw(get("/runs", host))).split()[1] == str(status).encode()


async def test_a_request_for_two_hosts_is_refused() -> None:
    async with served(open_to_all=True) as place:
        answer = await place.raw(get("/runs", more="host: localhost\r\n"))
        assert answer.split()[1] == b"400"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://", "http://[", ""])
async def test_what_changes_something_is_not_taken_from_another_origin(origin: str) -> None:
    async with served(open_to_all=True) as place:
        answer = await place.plain.post(
            "/runs", json={"workflow": "add", "input": {"a": 1}}, headers={"origin": origin}
        )
        assert (answer.status_code, answer.json()) == (403, {"error": "origin not allowed"})
        assert (await place.plain.get("/runs", headers={"origin": origin})).json()["runs"] == []


async def test_the_services_own_origin_and_allowed_ones_may_send() -> None:
    async with served(open_to_all=True, origins=("https://console.example",)) as place:
        for origin in (place.service.url, "https://console.example"):
            answer = await place.plain.post("/runs", json={"workflow": "ask"}, headers={"origin": origin})
            assert answer.status_code == 201


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    async with served() as place:
        bearer = f"authorization: Bearer {place.keys.token if place.keys else ''}\r\ncontent-type: application/json\r\n"
        head = get("/runs", method="POST", more=f"{bearer}content-length: 1000001\r\n")
        answer = await place.raw(head)  # not one byte of the body was sent
        assert answer.split()[1] == b"413"
        assert answer.endswith(b'{"error":"request body too large","max_bytes":1000000}')


async def test_a_body_in_pieces_is_counted() -> None:
    async with served(max_body_bytes=100) as place:

        async def pieces() -> object:
            for _ in range(20):
                yield b" " * 10

        answer = await place.client.post("/runs", content=pieces(), headers=JSON)
        assert (answer.status_code, answer.json()["max_bytes"]) == (413, 100)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_must_be_json_by_its_type(kind: str | None) -> None:
    async with served() as place:
        headers = {"content-type": kind} if kind else {}
        answer = await place.client.post("/runs", content=b'{"workflow":"ask"}', headers=headers)
        assert answer.status_code == 415
        assert (await place.client.get("/runs")).json()["runs"] == []


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 65 + b"1" + b"}" * 65, b'{"workflow":"' + b'\\"' * 400_000]
)
async def test_a_json_bomb_is_a_bad_request(body: bytes) -> None:
    async with served() as place:
        assert (await place.client.post("/runs", content=body, headers=JSON)).status_code == 400


@pytest.mark.parametrize("body", [b"{", b"\xff", b"nothing", b'{"workflow": "ask",}', b'"\\'])
async def test_what_is_no_json_is_a_bad_request(body: bytes) -> None:
    async with served() as place:
        answer = await place.client.post("/runs", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid json body")


# --- keys -------------------------------------------------------------------------------------------------------------


def test_the_first_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "server"
    token = KeyRing.open(directory).token
    assert token is not None
    assert stat.S_IMODE((directory / "token").stat().st_mode) == 0o600
    again = KeyRing.open(directory)
    assert again.token == token
    found = again.find(token)
    assert found is not None
    assert found.may("admin")


def test_a_token_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    KeyRing.open(tmp_path)
    os.chmod(tmp_path / "token", 0o644)
    with pytest.raises(InputError, match="0600"):
        KeyRing.open(tmp_path)


def test_keys_are_kept_as_hashes_and_revoked_for_ever(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path)
    token = ring.add("ci", ["runs:read"])
    kept = (tmp_path / "keys.json").read_text()
    assert token not in kept
    assert ring.token not in kept
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    again = KeyRing.open(tmp_path)
    key = again.find(token)
    assert key is not None
    assert (key.name, key.scopes) == ("ci", ("runs:read",))
    again.revoke("ci")
    assert again.find(token) is None
    assert KeyRing.open(tmp_path).find(token) is None


def test_an_expired_key_is_good_for_nothing() -> None:
    now = [1000]
    ring = KeyRing(now_ms=lambda: now[0])
    token = ring.add("ci", ["runs:read"], expires_ms=2000)
    assert ring.find(token) is not None
    now[0] = 2000
    assert ring.find(token) is None


async def test_a_revoked_key_is_refused_at_once() -> None:
    ring = KeyRing.fresh()
    token = ring.add("ci", ["runs:read"])
    async with served(keys=ring) as place:
        bearer = {"authorization": f"Bearer {token}"}
        assert (await place.plain.get("/runs", headers=bearer)).status_code == 200
        ring.revoke("ci")
        assert (await place.plain.get("/runs", headers=bearer)).status_code == 401


def test_two_who_change_the_keys_lose_nothing_of_each_others(tmp_path: Path) -> None:
    service, command_line = KeyRing.open(tmp_path), KeyRing.open(tmp_path)
    mine, theirs = service.add("mine", ["runs:read"]), command_line.add("theirs", ["runs:read"])
    command_line.revoke("mine")
    for ring in (service, command_line, KeyRing.open(tmp_path)):
        assert ring.find(mine) is None
        assert ring.find(theirs) is not None


def test_the_first_token_is_replaced_when_it_is_revoked(tmp_path: Path) -> None:
    ring, command_line = KeyRing.open(tmp_path), KeyRing.open(tmp_path)
    old = str(ring.token)
    command_line.revoke("first")
    assert ring.find(old) is None
    new = KeyRing.open(tmp_path).token
    assert new not in (None, old)
    assert ring.find(str(new)) is not None
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [b"{", b"{}", b"[1]", b'[{"name": "x"}]', b'[{"name":"x","hash":1,"scopes":[],"revoked":false}]', b"\xff"],
)
def test_a_file_of_keys_that_cannot_be_read_changes_nothing(tmp_path: Path, content: bytes) -> None:
    ring = KeyRing.open(tmp_path)
    good, bad = ring.add("good", ["runs:read"]), ring.add("bad", ["runs:read"])
    ring.revoke("bad")
    (tmp_path / "keys.json").write_bytes(content)
    assert ring.find(good) is not None
    assert ring.find(bad) is None
    with pytest.raises(InputError, match="cannot be read"):
        KeyRing.open(tmp_path)


def test_a_key_that_was_revoked_is_never_made_again(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path)
    ring.add("ci", ["runs:read"])
    ring.revoke("ci")
    with pytest.raises(InputError, match="exists already"):
        ring.add("ci", ["admin"])


async def test_the_actor_of_a_command_is_the_key_that_it_came_with() -> None:
    async with served() as place:
        run_id = await place.start("add", a=1)
        events = (await place.client.get(f"/runs/{run_id}/events")).json()["events"]
        assert events[0]["actor"] == "service:first"


# --- where it listens -------------------------------------------------------------------------------------------------


async def test_an_address_for_others_takes_keys_and_intent() -> None:
    async with Runtime(MemoryStore()) as runtime:
        with pytest.raises(InputError, match="nobody is asked"):
            Service(runtime, Settings(None), host="0.0.0.0", beyond_loopback=True)
        with pytest.raises(InputError, match="other machines"):
            Service(runtime, Settings(KeyRing.fresh()), host="0.0.0.0")
        async with Service(runtime, Settings(KeyRing.fresh()), host="0.0.0.0", beyond_loopback=True) as service:
            assert service.port > 0


async def test_a_token_is_asked_for_where_nothing_else_was_said(store_path: Path) -> None:
    async with Runtime(f"sqlite:///{store_path}") as runtime, Service(runtime) as service:
        token = (store_path.parent / f"{store_path.name}.server" / "token").read_text()
        assert service.start_url == f"{service.url}/#token={token}"
        async with httpx2.AsyncClient(base_url=service.url) as client:
            assert (await client.get("/runs")).status_code == 401
            bearer = {"authorization": f"Bearer {token}"}
            assert (await client.get("/runs", headers=bearer)).status_code == 200


async def test_a_runtime_that_is_not_open_is_not_served() -> None:
    with pytest.raises(StoreClosedError):
        Service(Runtime(MemoryStore()), Settings(None))
