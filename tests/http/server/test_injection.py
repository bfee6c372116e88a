"""What others write stays text: in pictures, in downloads, in headers, in the log; and paths lead nowhere."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import httpx2
import pytest

from perdure import Run, workflow
from perdure.server import Service
from perdure.store.sqlite import SQLiteStore
from tests.http.server.served import JSON, Served, served

TEXTS = [
    "<script>alert(1)</script>",
    '"><script>alert(1)</script>',
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<foreignObject><body onload='x'/></foreignObject>",
    "javascript:alert(1)",
    "]]><script>alert(1)</script><![CDATA[",
    "<![CDATA[<script>alert(1)</script>]]>",
    '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>&e;',
    "&lt;script&gt;&#60;script&#62;&e;",
    "</title></svg><script>alert(1)</script>",
    "<a xlink:href='javascript:alert(1)'>x</a>",
    "<use href='https://evil.example/x.svg#y'/>",
    "<style>@import 'https://evil.example'</style>",
    "\x1b[2J\x1b]0;title\x07 terminal",
    "line\r\nset-cookie: a=b\r\n\r\n<script>",
    "tab\tback\x08space",
    "\u202e\u2066 right to left \u2028\u2029",
    "\\N \\G \\l \\r {a|b|<c>}",
    "x" * 3000,
    "%00%0d%0a",
    "```mermaid\nclick a href 'javascript:alert(1)'\n```",
    'end"] click a call alert(1) %%{init: {"securityLevel":"loose"}}%%',
]
HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")
TYPES = {
    "svg": "image/svg+xml",
    "dot": "text/vnd.graphviz",
    "json": "application/json",
    "mermaid": "text/plain",
    "text": "text/plain",
}


def drawn_with(*texts: str) -> str:
    """A pipeline that bears texts wherever one can stand."""
    words = ['"' + one.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"' for one in texts]
    stages = "".join(
        f"""
        ask{number} [shape=hexagon, label={word}, prompt={word}]; work{number} [label={word}, prompt={word}]
        start -> ask{number}; ask{number} -> done [label={word}]
        ask{number} -> work{number} [label="[R] {word[1:]}]; work{number} -> ask{number}"""
        for number, word in enumerate(words)
    )
    return f"""digraph Drawn {{ graph [label={words[0]}, goal={words[-1]}]
        start [shape=Mdiamond, label={words[0]}]; done [shape=Msquare, label={words[0]}] {stages} }}"""


def check_svg(text: str) -> None:
    """A picture holds shapes and text alone."""
    assert "<!" not in text
    assert "<?" not in text
    for element in ElementTree.fromstring(text).iter():
        name = element.tag.rpartition("}")[2].lower()
        assert name in {"svg", "g", "title", "polygon", "polyline", "ellipse", "path", "text"}
        for attribute, value in element.attrib.items():
            plain = attribute.rpartition("}")[2].lower()
            assert not plain.startswith("on")
            assert plain not in {"href", "style", "src"}
            assert not re.search(r"script|url\(|://|@import", value, re.IGNORECASE)


def check_headers(answer: httpx2.Response) -> None:
    """No text has become a header, and a browser is told to execute nothing."""
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("first", range(0, len(TEXTS), 4))
async def test_a_text_is_nothing_but_a_text_in_every_format(first: int) -> None:
    async with served() as place:
        answer = await place.client.post("/pipelines", json={"dot": drawn_with(*TEXTS[first : first + 4])})
        assert answer.status_code == 202, answer.text
        path = f"/pipelines/{answer.json()['pipeline_id']}"
        for form, media_type in TYPES.items():
            answer = await place.client.get(f"{path}/graph", params={"format": form})
            assert answer.status_code == 200, f"{form}: {answer.text[:300]}"
            assert answer.headers["content-type"].partition(";")[0] == media_type
            check_headers(answer)
            if form == "svg":
                check_svg(answer.text)
            elif form != "dot":  # which is the source, as it was submitted
                assert not HIDDEN.search(answer.text), f"{form}: {answer.text[:500]!r}"
        for more in ("", "/events?stream=false", "/questions", "/checkpoint", "/context"):
            answer = await place.client.get(path + more)
            assert answer.headers["content-type"].partition(";")[0] == "application/json"
            check_headers(answer)


async def test_a_text_in_a_query_or_header_splits_no_answer() -> None:
    async with served() as place:
        run_id = (await place.client.post("/pipelines", json={"dot": drawn_with("plain")})).json()["pipeline_id"]
        for text in TEXTS[:-3]:
            for path in ("/graph?format=", "/events?stream=0&after=", "?"):
                answer = await place.client.get(f"/pipelines/{run_id}{path}{quote(text[:200])}")
                assert answer.status_code in (200, 400, 404)
                check_headers(answer)
                assert answer.headers["content-type"] == "application/json"


@workflow
async def keeps(run: Run, text: str) -> str:
    """Keeps a page under a name and a media type that somebody chose."""
    page = f"<html><script>{text}</script></html>".encode()
    return run.put(page, name=f"{text[:100]}.html", media_type="text/html").sha256


async def test_artifacts_are_attachments_whatever_they_are_called() -> None:
    async with served(workflows=(keeps,)) as place:
        for text in TEXTS:
            answer = await place.client.post("/runs", json={"workflow": "keeps", "input": {"text": text}})
            assert answer.status_code == 201, answer.text
            handle = place.runtime.run(answer.json()["run_id"])
            digest = await handle.result()
            answer = await place.client.get(f"/runs/{handle.id}/artifacts/{digest}")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"] == f'attachment; filename="{digest}"'
            check_headers(answer)


async def test_control_characters_end_no_line_of_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as place:
        for name in ("get_run", "head", "read"):  # whatever asks for a run meets a defect
            monkeypatch.setattr(place.runtime.store, name, None)
        caplog.set_level(logging.WARNING, logger="perdure.server")
        status, _ = await asked(place, "GET", "/runs/x/artifacts/%0d%0aFORGED%1b[2J")
        assert status == b"500"
    said = [record.getMessage() for record in caplog.records if record.name == "perdure.server"]
    assert any("FORGED" in one for one in said)
    assert not any(HIDDEN.search(one) or "\n" in one or "\r" in one for one in said)


# --- paths ------------------------------------------------------------------------------------------------------------

SEGMENTS = [
    "..",
    ".",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fcanary",
    "..%5c..%5ccanary",
    "%2fetc%2fpasswd",
    "%00",
    "canary%00.txt",
    "%252e%252e%252fcanary",
    "%c0%ae%c0%ae%c0%afcanary",
    "%ef%bc%8e%ef%bc%8e%ef%bc%8fcanary",
    "%ff%fe",
    "%ed%a0%80",
    "%e2%80%ae",
    "file:%2f%2f%2fetc%2fpasswd",
    "~root",
    "$HOME",
    "a" * 2000,
    "%0d%0aset-cookie:%20a=b",
    "%1b[2J",
    "'%20or%201=1--",
    "%22;drop%20table%20run;--",
    "*",
    "%25",
    "-",
    "con",
]


def paths_with(service: Service, segment: str) -> Iterator[tuple[str, str]]:
    """Every route of the service with a segment in place of each of its parameters."""
    for path, methods in service.app.openapi()["paths"].items():
        for name in re.findall(r"\{(\w+)\}", path):
            filled = re.sub(r"\{\w+\}", "run", path.replace(f"{{{name}}}", segment))
            for method in methods:
                yield method.upper(), filled


async def asked(place: Served, method: str, path: str) -> tuple[bytes, bytes]:
    """Send a path as it is, which no client library does; status and answer."""
    token = place.keys.token if place.keys is not None else ""
    answer = await place.raw(
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n"
        f"authorization: Bearer {token}\r\n\r\n".encode()
    )
    return answer.split()[1], answer


async def test_no_path_leads_anywhere(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("canary-content")
    (tmp_path / "data").mkdir()
    store = SQLiteStore(tmp_path / "data" / "runs.db", durability="process")
    async with served(store) as place:
        await place.client.post("/runs", json={"workflow": "listen", "id": "run"})
        await place.reaches("run", "waiting")
        asked_for = 0
        for segment in SEGMENTS:
            for method, path in paths_with(place.service, segment):
                if "/events" in path and segment in (".", "-"):
                    continue  # `run/./events` is asked for below `run` by no route, so nothing differs
                status, answer = await asked(place, method, path)
                asked_for += 1
                about = f"{method} {path}: {answer[:300]!r}"
                assert status in (b"404", b"405", b"422", b"400", b"409"), about
                assert b"canary-content" not in answer, about
                assert b"root:" not in answer, about
                assert b"\r\nset-cookie" not in answer.lower(), about
                assert b"Traceback" not in answer, about
        assert asked_for > 500
        assert (await place.client.get("/runs/run")).json()["status"] == "waiting"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["canary", "data"]
        assert all(path.name.startswith("runs.db") for path in (tmp_path / "data").iterdir())


async def test_paths_in_bodies_lead_nowhere() -> None:
    async with served() as place:
        for segment in SEGMENTS:
            for body in ({"workflow": segment}, {"workflow": "listen", "id": segment}):
                answer = await place.client.post("/runs", content=json.dumps(body).encode(), headers=JSON)
                plain = segment in ("-", "con") or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", segment)
                assert answer.status_code in (404, 422) or (plain and answer.status_code == 201), answer.text
            answer = await place.client.post("/pipelines", json={"dot": "digraph {", "opts": {"pipeline_id": segment}})
            assert answer.status_code in (409, 422)  # 409: it is the id of a run that was just started
