"""Secrets that must appear nowhere: each is planted once, everything is exercised, and everything is searched."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest

from perdure import Run, Runtime, Secret, current_step, step, workflow
from perdure.cli.application import invoke
from perdure.core.errors import PerdureError
from perdure.engine.logs import configure
from perdure.server import KeyRing, Service, Settings
from perdure.server.pipelines import PipelineSettings
from perdure.server.settings import data_directory
from perdure.store.sqlite import SQLiteStore
from tests.http.server.served import JSON

IN_STEP = "canary-in-step-4711"
IN_ENVIRON = "canary-in-environment-4712"
IN_URL = "canary-in-url-4713"
IN_BODY = "canary-in-body-4714"
MARKER = "what may be seen"
VIEWS = ("", "/events", "/events?stream=false", "/state", "/questions", "/artifacts", "/journal", "/verify")


@step(kind="read", retries=0)
async def reveals(secret: Secret) -> dict[str, Any]:
    """Does with a secret all that should not be done."""
    value = current_step().reveal(secret)
    logging.getLogger("some.library").warning("connecting with %s", value)
    current_step().log.warning("the secret is %s", value)
    current_step().tell(f"telling {value}")
    return {"plain": value, value: [value, MARKER], "bytes": value.encode(), "url": f"https://u:{IN_URL}@host/"}


@step(kind="read", retries=0)
async def breaks(secret: Secret) -> None:
    value = current_step().reveal(secret)
    raise RuntimeError(f"cannot reach https://someone:{IN_URL}@host.example/ with {value}: {MARKER}")


@workflow
async def careless(run: Run, secret: Secret) -> Any:
    found = await run.step(reveals, secret)
    run.emit("found", found)
    run.put(str(found).encode(), name="found.txt")
    run.state["found"] = found
    run.log.warning("found %s", found)
    await run.ask("Go on?", approve=found)
    return found


@workflow
async def failing(run: Run, secret: Secret) -> None:
    await run.step(breaks, secret)


class Heard:
    """All that anybody outside could see."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}

    def note(self, place: str, data: bytes | str) -> None:
        """Remember what was seen where."""
        self.parts[f"{len(self.parts)} {place}"] = data.encode() if isinstance(data, str) else data

    def where(self, secret: str) -> list[str]:
        """Where a secret was seen, plain or in Base64."""
        shapes = [secret.encode()]
        for shift in range(3):  # as it stands in Base64, at each of the three places that it can have
            text = base64.b64encode(b"." * shift + secret.encode())
            shapes.append(text[4 if shift else 0 : len(text) // 4 * 4 - 4])
        return [place for place, data in self.parts.items() if any(shape in data for shape in shapes)]


@asynccontextmanager
async def listening(path: Path, heard: Heard, environ: dict[str, str]) -> AsyncIterator[tuple[Service, Any]]:
    """A service whose every answer is remembered, head and body."""
    store = SQLiteStore(path, durability="process")
    ring = KeyRing.open(data_directory(str(path)))
    settings = Settings(ring, pipelines=PipelineSettings(allow_commands=True))

    async def remember(answer: httpx2.Response) -> None:
        body = await answer.aread()
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        heard.note(f"{answer.request.method} {answer.request.url.path}", head.encode() + b"\n\n" + body)

    async with (
        Runtime(store, workflows=(careless, failing), environ=environ) as runtime,
        Service(runtime, settings) as service,
        httpx2.AsyncClient(base_url=service.url, event_hooks={"response": [remember]}, timeout=30) as client,
    ):
        client.headers["authorization"] = f"Bearer {ring.token}"
        yield service, client


async def exercise(service: Service, client: httpx2.AsyncClient) -> None:
    """Ask for everything, in right and in wrong ways."""
    runtime: Runtime = service.app.state.runtime
    secret = {"secret": "env:CANARY"}
    for name, run_id in (("careless", "c"), ("failing", "f")):
        answer = await client.post("/runs", json={"workflow": name, "input": secret, "id": run_id})
        assert answer.status_code == 201, answer.text
    while (await runtime.run("c").status(), await runtime.run("f").status()) != ("waiting", "failed"):
        with runtime.hub.watch(None) as grown:
            await grown.wait()
    for run_id in ("c", "f"):
        for more in (
            "",
            "/events",
            "/events?stream=false",
            "/state",
            "/questions",
            "/artifacts",
            "/journal",
            "/verify",
        ):
            await client.get(f"/runs/{run_id}{more}")
        for artifact in (await client.get(f"/runs/{run_id}/artifacts")).json()["artifacts"]:
            await client.get(f"/runs/{run_id}/artifacts/{artifact['artifact_id']}")
    for path in ("/runs", "/events", "/waits", "/questions", "/workflows", "/workers", "/metrics", "/openapi.json"):
        await client.get(path)
    question = (await client.get("/runs/c/questions")).json()["questions"][0]
    assert MARKER in str(question["approve"])
    answer = await client.post("/runs/c/answer", json={"value": "yes", "hash": question["hash"]})
    assert answer.status_code == 202, answer.text
    await runtime.run("c").result()
    for run_id in ("c", "f"):
        await client.get(f"/runs/{run_id}/events", params={"stream": "true"})


async def misuse(client: httpx2.AsyncClient, tokens: list[str]) -> None:
    """Send what is refused, with a secret in it."""
    for path in ("/runs", "/pipelines", "/answer", "/runs/c/cancel", "/runs/c/signal", "/pipelines/c/cancel"):
        for body in (f'{{"{IN_BODY}": 1}}', f'{{"workflow": "{IN_BODY}', f'{{"dot": "digraph {{ {IN_BODY} -> "}}'):
            await client.post(path, content=body.encode(), headers=JSON)
            await client.post(path, content=body.encode(), headers={"content-type": "text/plain"})
    for token in tokens:
        for value in (f"Basic {token}", f"Bearer {token}x", token, f"Bearer {token} {token}"):
            answer = await client.get("/runs", headers={"authorization": value})
            assert answer.status_code == 401
    dot = 'digraph T { start [shape=Mdiamond]; done [shape=Msquare]; t [shape=parallelogram, tool_command="env"]'
    answer = await client.post("/pipelines", json={"dot": dot + " start -> t -> done }", "opts": {"pipeline_id": "t"}})
    assert answer.status_code == 202


def search_the_disk(folder: Path, heard: Heard) -> None:
    """Remember every file, and every cell of the database as it is read back."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            heard.note(str(path.relative_to(folder)), path.read_bytes())
    [file] = folder.glob("*.db")
    database = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    for (table,) in database.execute("select name from sqlite_schema where type = 'table'").fetchall():
        for row in database.execute(f'select * from "{table}"'):
            heard.note(f"table {table}", repr(row))
            for cell in row:
                if isinstance(cell, bytes):
                    heard.note(f"table {table}", cell)
    database.close()


@pytest.mark.parametrize("form", ["text", "json"])
async def test_secrets_appear_nowhere_but_where_they_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, form: Any
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", IN_ENVIRON)
    log, heard, path = io.StringIO(), Heard(), tmp_path / "runs.db"
    before = list(logging.getLogger().handlers)
    for name in ("httpcore2", "httpx2"):  # the sender's own, in this very process
        caplog.set_level(logging.WARNING, logger=name)
    configure(form=form, level="debug", stream=log)
    try:
        async with listening(path, heard, {"CANARY": IN_STEP, "OTHER": IN_ENVIRON}) as (service, client):
            ring: KeyRing = service.app.state.settings.keys
            key = ring.add("ci", ["admin"])
            client.headers["authorization"] = f"Bearer {key}"
            await exercise(service, client)
            await misuse(client, [key, str(ring.token)])
            await service.app.state.runtime.run("t").result()
            for more in ("", "/events?stream=false", "/context", "/checkpoint", "/artifacts", "/graph"):
                await client.get(f"/pipelines/t{more}")
            search_the_disk(tmp_path, heard)  # also what is not in the database's file yet
        search_the_disk(tmp_path, heard)
    finally:
        root = logging.getLogger()
        for handler in [one for one in root.handlers if one not in before]:
            root.removeHandler(handler)
        root.setLevel(logging.WARNING)
    heard.note("log", log.getvalue())
    assert MARKER in log.getvalue()
    assert heard.where(MARKER)  # the search finds what may be found
    assert heard.where(IN_STEP) == []
    assert heard.where(IN_ENVIRON) == []
    assert heard.where(IN_URL) == []
    assert heard.where(key) == []
    token_places = {place.partition(" ")[2] for place in heard.where(str(ring.token))}
    assert token_places == {"runs.db.server/token"}
    assert not [place for place in heard.where(IN_BODY) if not place.partition(" ")[2].startswith("POST ")]


def test_an_error_about_a_stores_url_bears_no_credentials(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("serve", "ps", "worker", "dev"):
        for url in (f"postgres://user:{IN_URL}@host/db", f"sqlite://user:{IN_URL}@host/x", f"user:{IN_URL}@host"):
            files = ["--port", "0"] if command in ("serve", "dev") else []
            assert invoke([command, *files, "--store", url, *(["none.py"] if command == "worker" else [])]) == 2
            assert IN_URL not in "".join(capsys.readouterr())


async def test_an_error_that_names_a_url_with_credentials_is_told_without_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard = Heard()
    async with listening(tmp_path / "runs.db", heard, {}) as (service, client):

        async def broken() -> None:
            raise PerdureError(f"cannot reach postgres://user:{IN_URL}@host/db", hint=f"try https://a:{IN_URL}@b")

        monkeypatch.setattr(service.app.state.runtime, "stats", broken)
        answer = await client.get("/metrics")
        assert answer.status_code == 500
        assert IN_URL not in answer.text
