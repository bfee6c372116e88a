"""The OpenAI-compatible backend against a real server: what it sends, and what it makes of every kind of answer."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import pytest

from perdure import Secret
from perdure.core.errors import RetryAfter, SecretError
from perdure.model import (
    Message,
    ModelBusyError,
    ModelError,
    ModelRefusedError,
    ModelReply,
    ModelReplyError,
    ModelReplyTooLargeError,
    ModelRequest,
    ModelTimeoutError,
    ModelUnauthorizedError,
    ModelUnavailableError,
    OpenAIBackend,
    Usage,
    ask,
)
from perdure.model.exchange import MOST_REPLY_BYTES
from tests.http.model.scripted_endpoint import (
    END,
    STREAM,
    Answer,
    answer,
    chunk,
    chunked,
    chunks,
    completion,
    endpoint,
    events,
    head,
    streamed,
)

pytestmark = pytest.mark.time_limit(30)

KEY = "canary-key-0123456789"
USED = Usage(input_tokens=11, output_tokens=7, cached_tokens=5, reasoning_tokens=3)
WORDS = ["Grüezi, ", "wie ", "geht’s", "? 🙂"]
WHOLE = "".join(WORDS)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", KEY)


async def completed(script: Answer, request: ModelRequest | None = None, **options: Any) -> ModelReply:
    async with endpoint(script) as place:
        backend = OpenAIBackend(place.url, model="small", api_key=Secret("env:MODEL_KEY"), **options)
        return await backend.complete(request or ask("Hello"))


async def failed(script: Answer, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await completed(script, **options)
    assert KEY not in "".join(traceback.format_exception(raised.value))
    assert KEY not in str(raised.value.to_dict())
    return raised.value


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_a_request_is_sent_with_all_that_it_says() -> None:
    request = ModelRequest(
        (Message("system", "Be brief."), Message("user", "Hello")),
        model="large",
        effort="high",
        max_output_tokens=50,
        temperature=0.5,
        metadata={"stage": "plan"},
    )
    async with endpoint(answer(200, completion("Hi"))) as place:
        backend = OpenAIBackend(
            place.url + "/", api_key=Secret("env:MODEL_KEY"), headers={"X-Team": "blue"}, stream=False
        )
        await backend.complete(request)
    (asked,) = place.asked
    assert asked.line == "POST /v1/chat/completions HTTP/1.1"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["x-team"] == "blue"
    assert asked.json == {
        "model": "large",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "stream": False,
        "reasoning_effort": "high",
        "max_completion_tokens": 50,
        "temperature": 0.5,
    }


async def test_a_streamed_request_asks_for_usage_and_what_is_unset_is_not_sent() -> None:
    async with endpoint(streamed(events(*chunks(WORDS), "[DONE]"))) as place:
        await OpenAIBackend(place.url, model="small").complete(ask("Hello"))
    (asked,) = place.asked
    assert asked.json == {
        "model": "small",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "authorization" not in asked.headers


async def test_an_older_server_is_told_the_longest_answer_in_its_own_word() -> None:
    request = ModelRequest((Message("user", "Hello"),), max_output_tokens=9)
    async with endpoint(answer(200, completion("Hi"))) as place:
        await OpenAIBackend(place.url, model="small", stream=False, output_limit="max_tokens").complete(request)
    assert place.asked[0].json["max_tokens"] == 9
    assert "max_completion_tokens" not in place.asked[0].json


async def test_a_secret_header_is_looked_up_when_it_is_sent() -> None:
    async with endpoint(answer(200, completion("Hi"))) as place:
        backend = OpenAIBackend(place.url, model="small", stream=False, headers={"Api-Key": Secret("env:MODEL_KEY")})
        assert KEY not in repr(backend)
        await backend.complete(ask("Hello"))
    assert place.asked[0].headers["api-key"] == KEY


async def test_a_key_that_is_not_fit_for_a_header_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", KEY + "\r\nX-Evil: yes")
    async with endpoint(answer(200, completion("Hi"))) as place:
        with pytest.raises(SecretError) as raised:
            await OpenAIBackend(place.url, model="small", api_key=Secret("env:MODEL_KEY")).complete(ask("Hello"))
    assert place.asked == []
    assert KEY not in "".join(traceback.format_exception(raised.value))


# --- replies ----------------------------------------------------------------------------------------------------------


async def test_a_whole_reply_is_read() -> None:
    reply = await completed(answer(200, completion(WHOLE)), stream=False)
    assert reply == ModelReply(WHOLE, "served-1", USED, "stop")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, None])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
async def test_a_streamed_reply_is_read_in_whatever_pieces_it_comes(size: int | None, line_end: str) -> None:
    comment = f": keep alive{line_end}{line_end}".encode()
    data = comment + events(*chunks(WORDS), line_end=line_end) + comment + events("[DONE]", line_end=line_end)
    told: list[str] = []
    async with endpoint(streamed(data, size=size)) as place:
        reply = await OpenAIBackend(place.url, model="small").complete(ask("Hello"), on_text=told.append)
    assert reply == ModelReply(WHOLE, "served-1", USED, "stop")
    assert told == WORDS


async def test_a_server_that_ignores_the_wish_to_stream_is_understood() -> None:
    told: list[str] = []
    async with endpoint(answer(200, completion(WHOLE))) as place:
        reply = await OpenAIBackend(place.url, model="small").complete(ask("Hello"), on_text=told.append)
    assert (reply.text, told) == (WHOLE, [WHOLE])


async def test_a_stream_without_usage_counts_nothing() -> None:
    reply = await completed(streamed(events(*chunks(WORDS, usage=False), "[DONE]")))
    assert reply == ModelReply(WHOLE, "served-1", Usage(), "stop")


async def test_a_stream_that_ends_without_its_mark_is_whole_once_the_model_said_why_it_stopped() -> None:
    assert (await completed(streamed(events(*chunks(WORDS))))).text == WHOLE


async def test_a_stream_that_is_cut_after_the_model_stopped_is_whole() -> None:
    reply = await completed(streamed(events(*chunks(WORDS, usage=False)), end=False, cut=True))
    assert (reply.text, reply.usage) == (WHOLE, Usage())


async def test_a_stream_that_ends_by_its_mark_needs_no_reason() -> None:
    reply = await completed(streamed(events(*chunks(WORDS, finish=None), "[DONE]")))
    assert (reply.text, reply.finish_reason) == (WHOLE, None)


async def test_a_refusal_of_the_model_is_a_reply_that_says_so() -> None:
    message = {"role": "assistant", "content": None, "refusal": "I will not."}
    whole = completion("", choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    said = ModelReply("I will not.", "served-1", USED, "refusal")
    assert await completed(answer(200, whole), stream=False) == said
    pieces = [chunk({"refusal": "I will "}), chunk({"refusal": "not."}, "stop"), *chunks([], finish=None)]
    assert await completed(streamed(events(*pieces, "[DONE]"))) == said


# --- no replies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("tail", [b"", b'data: {"choices": [{"del'])
async def test_a_stream_that_is_cut_off_in_the_middle_may_be_tried_again(end: bool, tail: bytes) -> None:
    data = events(*chunks(WORDS, finish=None, usage=False)) + tail
    error = await failed(streamed(data, end=end, cut=not end))
    assert type(error) is ModelUnavailableError
    assert error.retryable


async def test_a_whole_reply_that_is_cut_off_may_be_tried_again() -> None:
    error = await failed(answer(200, b'{"choices": [', length=500), stream=False)
    assert type(error) is ModelUnavailableError


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        ({"message": "boom", "type": "server_error"}, ModelUnavailableError),
        ({"message": "boom", "code": 502}, ModelUnavailableError),
        ({"message": "boom", "code": "rate_limit_exceeded"}, ModelUnavailableError),
        ({"message": "boom", "type": "invalid_request_error"}, ModelRefusedError),
        ({"message": "boom", "code": "401"}, ModelUnauthorizedError),
        ("boom", ModelUnavailableError),
    ],
)
async def test_an_error_inside_the_stream_is_that_error(report: object, kind: type[ModelError]) -> None:
    error = await failed(streamed(events(*chunks(WORDS, finish=None, usage=False), {"error": report})))
    assert type(error) is kind
    assert error.message.endswith("boom")


async def test_an_event_called_error_is_an_error_whatever_it_holds() -> None:
    error = await failed(streamed(b"event: error\ndata: out of memory\n\n"))
    assert error.message == "the endpoint broke off with an error: out of memory"


async def test_an_error_inside_a_whole_reply_is_that_error() -> None:
    error = await failed(answer(200, {"error": {"message": "no such model", "code": 404}}), stream=False)
    assert (type(error), error.ids["status"]) == (ModelRefusedError, 404)


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422])
async def test_a_refused_request_is_not_worth_another_attempt(status: int) -> None:
    error = await failed(answer(status, {"error": {"message": "no such\nmodel"}}))
    assert (type(error), error.retryable) == (ModelRefusedError, False)
    assert error.message == f"the endpoint answered {status}: no such model"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_told_without_the_key(status: int) -> None:
    error = await failed(answer(status, {"error": {"message": f"wrong key: {KEY}, or sk-abcdefghij0123456789xyz"}}))
    assert (type(error), error.retryable) == (ModelUnauthorizedError, False)
    assert "[secret env:MODEL_KEY]" in error.message
    assert "[redacted sk_key]" in error.message


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_a_fault_of_the_endpoint_is_worth_another_attempt(status: int) -> None:
    error = await failed(answer(status, "<html>oops</html>", media_type="text/html"))
    assert (type(error), error.retryable) == (ModelUnavailableError, True)
    assert error.message == f"the endpoint answered {status}"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "delay_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "Fri, 01 Jan 2027 00:01:30 GMT", "Date": "Fri, 01 Jan 2027 00:01:00 GMT"}, 30.0),
        ({"Retry-After": "Fri, 01 Jan 2027 00:01:30 GMT"}, 90.0),
        ({"Retry-After": "Thu, 31 Dec 2026 00:00:00 GMT"}, 0.0),
    ],
)
async def test_retry_after_is_understood(status: int, headers: dict[str, str], delay_s: float) -> None:
    new_year_2027_s = 1_798_761_600.0
    error = await failed(answer(status, {"error": "slow down"}, headers=headers), now_s=lambda: new_year_2027_s)
    assert isinstance(error, ModelBusyError)
    assert isinstance(error, RetryAfter)
    assert (error.delay_s, error.ids["status"], str(error)) == (delay_s, status, error.message)


@pytest.mark.parametrize("header", ["soon", "-3", "1e9", "nan", ""])
async def test_a_retry_after_that_makes_no_sense_is_as_none(header: str) -> None:
    error = await failed(answer(429, {}, headers={"Retry-After": header}))
    assert type(error) is ModelUnavailableError


async def test_a_redirect_is_not_followed() -> None:
    async with endpoint(answer(200, completion("Hi"))) as elsewhere:
        error = await failed(answer(307, b"", headers={"Location": elsewhere.url}))
    assert isinstance(error, ModelRefusedError)
    assert "redirects are not followed" in error.hint
    assert elsewhere.asked == []


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"choices": []}', '"text"', "NaN"])
async def test_a_reply_that_is_none_is_not_worth_another_attempt(body: str) -> None:
    error = await failed(answer(200, body), stream=False)
    assert (type(error), error.retryable) == (ModelReplyError, False)


@pytest.mark.parametrize("data", ["{", "[]", "hello"])
async def test_a_chunk_that_is_none_is_not_worth_another_attempt(data: str) -> None:
    assert type(await failed(streamed(events(data)))) is ModelReplyError


async def test_a_page_instead_of_json_is_named() -> None:
    error = await failed(answer(200, "<html>Welcome</html>", media_type="text/html; charset=utf-8"))
    assert type(error) is ModelReplyError
    assert "'text/html'" in error.message


async def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    error = await failed(answer(200, completion(WHOLE), headers={"Content-Encoding": "gzip"}))
    assert type(error) is ModelReplyError
    assert "'gzip'" in error.message


async def test_a_huge_whole_reply_is_refused() -> None:
    error = await failed(answer(200, b" " * (MOST_REPLY_BYTES + 1), cut=True), stream=False)
    assert type(error) is ModelReplyTooLargeError


async def test_a_huge_event_is_refused_before_it_ends() -> None:
    megabyte = chunked(b"x" * 1024 * 1024)
    error = await failed(Answer([head(200, STREAM), chunked(b"data: "), *[megabyte] * 16], hold=True))
    assert type(error) is ModelReplyTooLargeError


async def test_a_huge_streamed_text_is_refused() -> None:
    megabyte = chunked(events(*chunks(["x" * 1024 * 1024], finish=None, usage=False)))
    error = await failed(Answer([head(200, STREAM), *[megabyte] * 17, END]))
    assert type(error) is ModelReplyTooLargeError


async def test_a_huge_error_is_not_read_to_its_end() -> None:
    endless = answer(500, b"x" * 1024 * 1024, media_type="text/plain", length=1024**3, hold=True)
    error = await failed(endless, timeout=10)
    assert (type(error), len(error.message) < 600) == (ModelUnavailableError, True)


# --- time and place ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", head(200, STREAM) + chunked(events(chunk({"content": "Hm"})))])
async def test_a_request_has_a_limit_of_its_own(begun: bytes) -> None:
    request = ModelRequest((Message("user", "Hello"),), timeout_s=0.2)
    async with endpoint(Answer([begun], hold=True)) as place:
        with pytest.raises(ModelTimeoutError) as raised:
            await OpenAIBackend(place.url, model="small").complete(request)
        await place.left.wait()
    assert raised.value.retryable


async def test_a_stream_that_falls_silent_is_left() -> None:
    begun = head(200, STREAM) + chunked(events(chunk({"content": "Hm"})))
    error = await failed(Answer([begun], hold=True), idle_timeout=0.2)
    assert type(error) is ModelTimeoutError
    assert "silent" in error.message


async def test_a_stream_that_drips_for_ever_is_left_at_the_limit() -> None:
    drip = chunked(events(chunk({"content": "drip "})))
    error = await failed(Answer([head(200, STREAM), *[drip] * 1000], hold=True), timeout=0.5, idle_timeout=30)
    assert type(error) is ModelTimeoutError


async def test_an_endpoint_that_is_not_there_may_be_tried_again() -> None:
    async with endpoint(answer(200, {})) as place:
        gone = place.url
    with pytest.raises(ModelUnavailableError) as raised:
        await OpenAIBackend(gone, model="small").complete(ask("Hello"))
    assert raised.value.ids == {"endpoint": gone, "model": "small"}


async def test_a_request_that_is_cancelled_leaves_the_connection() -> None:
    async with endpoint(Answer([b""], hold=True)) as place:
        asking = asyncio.create_task(OpenAIBackend(place.url, model="small").complete(ask("Hello")))
        await place.held.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await place.left.wait()


async def test_the_key_reaches_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await completed(streamed(events(*chunks(WORDS), "[DONE]")))
    assert caplog.records  # the HTTP library does log
    assert KEY not in caplog.text
    assert not any(KEY in str(record.__dict__) for record in caplog.records)
