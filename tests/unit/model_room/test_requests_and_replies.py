"""Requests, replies and errors are plain data: checked when they are made, recorded, and unchanged by it."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

from perdure.core.errors import InputTypeError, PerdureError, RetryAfter, StepFailed
from perdure.core.values import codec_for
from perdure.engine.failures import describe
from perdure.model import (
    Message,
    ModelBusyError,
    ModelCallError,
    ModelRefusedError,
    ModelReply,
    ModelRequest,
    ModelUnavailableError,
    Usage,
    ask,
    may_succeed_later,
)
from perdure.model.statuses import as_model_error

HELLO = (Message("user", "Hello"),)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": ()},
        {"messages": [Message("user", "Hello")]},
        {"messages": ("Hello",)},
        {"messages": HELLO, "max_output_tokens": 0},
        {"messages": HELLO, "temperature": -0.1},
        {"messages": HELLO, "temperature": math.nan},
        {"messages": HELLO, "temperature": math.inf},
        {"messages": HELLO, "timeout_s": 0},
        {"messages": HELLO, "timeout_s": math.nan},
    ],
)
def test_a_request_that_nobody_could_answer_is_refused_when_it_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(InputTypeError, match="model request"):
        ModelRequest(**fields)


@pytest.mark.parametrize(
    "value",
    [
        ask("Hello"),
        ask("Hello", system="Be brief.", model="small"),
        ModelRequest(HELLO, "m", "p", "high", 5, 0.5, 30.0, {"stage": "plan"}),
        ModelReply("Hi"),
        ModelReply("Hi", "m", Usage(1, 2, 3, 4), "stop", True),
    ],
)
def test_requests_and_replies_are_recorded_and_come_back_as_they_were(value: object) -> None:
    codec = codec_for(type(value))
    assert codec.load(codec.dump(value)) == value


def test_a_question_is_a_request_of_one_message_after_the_system_s() -> None:
    assert ask("Hello", system="Be brief.").messages == (Message("system", "Be brief."), Message("user", "Hello"))


def test_costs_add_up() -> None:
    assert sum([Usage(1, 2, 3, 4), Usage(10, 20, 30, 40)], Usage()) == Usage(11, 22, 33, 44)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ModelRefusedError("no", status=404, endpoint="https://host/v1"),
        ModelBusyError("busy", delay_s=3.0, status=503, hint="wait", endpoint="https://host/v1"),
        ModelCallError("boom", error_type="KeyError"),
    ],
)
def test_an_error_is_the_same_after_it_was_copied(error: PerdureError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert (other.to_dict(), str(other), describe(other)) == (error.to_dict(), str(error), describe(error))
        assert getattr(other, "delay_s", None) == getattr(error, "delay_s", None)


class Answered:
    def __init__(self, status_code: int, headers: dict[str, str]) -> None:
        self.status_code = status_code
        self.headers = headers


class LibraryError(Exception):
    def __init__(self, status_code: int, headers: dict[str, str]) -> None:
        super().__init__("the library says no")
        self.response = Answered(status_code, headers)


class OutOfWords(Exception):
    status_code = "none"


@pytest.mark.parametrize(
    ("error", "code", "later"),
    [
        (LibraryError(400, {}), "model_refused", False),
        (LibraryError(401, {}), "model_unauthorized", False),
        (LibraryError(429, {}), "model_unavailable", True),
        (LibraryError(500, {}), "model_unavailable", True),
        (LibraryError(429, {"retry-after": "4"}), "model_busy", True),
        (RetryAfter(4.0), "model_busy", True),
        (TimeoutError(), "model_timeout", True),
        (ValueError("boom"), "model_call_failed", True),
        (OutOfWords(), "model_call_failed", True),
        (InputTypeError("wrong"), "input_type", False),
    ],
)
def test_exceptions_of_other_libraries_are_understood(error: Exception, code: str, later: bool) -> None:
    known = as_model_error(error, 0.0)
    described = describe(known)
    failed = StepFailed(described["message"], error_code=described["code"], error_type=described["type"])
    assert (described["code"], may_succeed_later(failed)) == (code, later)
    assert isinstance(known, ModelUnavailableError) == later  # what the step tries again
    assert described["message"]


def test_an_unknown_exception_keeps_its_name_and_loses_what_looks_like_a_secret() -> None:
    described = describe(as_model_error(KeyError("sk-abcdefghij0123456789xyz\n" + "x" * 9000), 0.0))
    assert described["type"] == "KeyError"
    assert "[redacted sk_key]" in described["message"]
    assert "abcdefghij" not in described["message"]
    assert len(described["message"]) < 600
    assert "\n" not in described["message"]


def test_a_wait_that_a_library_was_asked_for_is_kept() -> None:
    known = as_model_error(LibraryError(503, {"retry-after": "4"}), 0.0)
    assert isinstance(known, ModelBusyError)
    assert known.delay_s == 4.0
