"""`HEAD` by the answer to `GET`."""

from __future__ import annotations

from typing import Any

from starlette.types import Message, Receive, Scope, Send

from perdure.server.methods import Heads


async def headed(method: str, parts: list[bytes]) -> tuple[list[Message], list[str]]:
    """What is sent for a request that is answered in parts, and what the application saw and did."""
    done: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        done.append(scope["method"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number, part in enumerate(parts):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts) - 1})
            done.append(part.decode())

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    await Heads(app)({"type": "http", "method": method}, receive, send)
    return sent, done


END = {"type": "http.response.body", "body": b"", "more_body": False}


async def test_the_body_is_left_out() -> None:
    sent, done = await headed("HEAD", [b"whole"])
    assert (sent[1:], done) == ([END], ["GET", "whole"])


async def test_a_stream_is_stopped_at_its_first_part() -> None:
    sent, done = await headed("HEAD", [b"one", b"two", b"three"])
    assert (sent[1:], done) == ([END], ["GET"])


async def test_other_methods_pass() -> None:
    sent, done = await headed("GET", [b"one", b"two"])
    assert [one["body"] for one in sent[1:]] == [b"one", b"two"]
    assert done == ["GET", "one", "two"]
