"""Errors that the service tells of are the errors that the engine raises: same class, words, hint and ids."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from perdure.client.refusals import classes_by_code, refusal_of
from perdure.core import errors, pipeline_errors
from perdure.core.errors import PerdureError, Problem, RemoteError
from perdure.server.responses import error_body, status_of
from tests.docs.error_table import error_classes

SPECIAL: dict[type[PerdureError], Callable[[Any], PerdureError]] = {
    errors.FormError: lambda cls: cls("plan 'x'", [Problem("cycle", "a cycle", ("a", "b"))], hint="cut it", run_id="r"),
    errors.StepFailed: lambda cls: cls("broke", error_code="c", error_type="T", details={"a": 1}, run_id="r"),
    pipeline_errors.PipelineSyntaxError: lambda cls: cls(
        "no ]", line=3, column=5, source_line="a -> b [", file="x.dot", hint="close it"
    ),
    pipeline_errors.PipelineInvalidError: lambda cls: cls(
        "p", [{"rule": "start", "severity": "error", "message": "no start"}], hint="add one", field="dot"
    ),
    RemoteError: lambda cls: cls("m", told={"code": "remote_error"}, hint="h", run_id="r"),
}


def made(cls: type[PerdureError]) -> PerdureError:
    for base in cls.__mro__:
        if base in SPECIAL:
            return SPECIAL[base](cls)
    return cls("what went wrong", hint="what to do", run_id="r1", seq=7)


def in_core(cls: type[PerdureError]) -> bool:
    return cls.__module__.startswith("perdure.core.")


@pytest.mark.parametrize("cls", [cls for cls in error_classes() if in_core(cls)], ids=lambda cls: cls.code)
def test_an_error_of_core_comes_back_as_it_was(cls: type[PerdureError]) -> None:
    error = made(cls)
    back = refusal_of(status_of(error), orjson.dumps(error_body(error)))
    assert type(back) is cls
    assert back.to_dict() == error.to_dict()
    again = pickle.loads(pickle.dumps(back))
    assert (type(again), again.to_dict()) == (cls, error.to_dict())


@pytest.mark.parametrize("cls", [cls for cls in error_classes() if not in_core(cls)], ids=lambda cls: cls.code)
def test_an_error_of_another_room_keeps_code_and_words(cls: type[PerdureError]) -> None:
    error = cls.__new__(cls)
    PerdureError.__init__(error, "what went wrong", hint="what to do", run_id="r1")
    back = refusal_of(422, orjson.dumps(error_body(error)))
    assert isinstance(back, RemoteError)
    assert back.to_dict() == PerdureError.to_dict(error)
    assert pickle.loads(pickle.dumps(back)).to_dict() == back.to_dict()


def test_every_class_of_core_is_in_the_table() -> None:
    known = classes_by_code()
    assert {cls.code for cls in error_classes() if in_core(cls)} == set(known)
    assert all(inspect.isclass(cls) and cls.code == code for code, cls in known.items())


@pytest.mark.parametrize(
    ("status", "body", "kind", "ids"),
    [
        (401, {"error": "authentication is required"}, errors.NotAuthorisedError, {"status": 401}),
        (403, {"error": "no", "scope": "admin"}, errors.NotPermittedError, {"status": 403, "scope": "admin"}),
        (404, {"error": "pipeline not found"}, errors.NotFoundError, {"status": 404}),
        (409, {"error": "pipeline already finished", "status": "fail"}, errors.ConflictError, {"status": "fail"}),
        (400, {"error": "host not allowed"}, errors.InputError, {"status": 400}),
        (413, {"error": "too large", "max_bytes": 5}, errors.InputError, {"status": 413, "max_bytes": 5}),
        (422, {"error": "no", "field": "opts"}, errors.InputError, {"status": 422, "field": "opts"}),
        (429, {"error": "slow down"}, errors.ServiceBusyError, {"status": 429}),
        (500, {"error": "internal error"}, errors.ServiceFaultError, {"status": 500}),
        (503, {"error": "not now"}, errors.ServiceBusyError, {"status": 503}),
    ],
)
def test_a_refusal_without_a_code_is_known_by_its_status(
    status: int, body: dict[str, Any], kind: type[PerdureError], ids: dict[str, Any]
) -> None:
    error = refusal_of(status, orjson.dumps(body))
    assert type(error) is kind
    assert (error.message, error.ids) == (body["error"], ids)


def test_diagnostics_of_a_graph_are_kept() -> None:
    diagnostics = [{"rule": "start", "severity": "error", "message": "no start"}]
    error = refusal_of(422, orjson.dumps({"error": "pipeline 'p': no start", "diagnostics": diagnostics}))
    assert isinstance(error, pipeline_errors.PipelineInvalidError)
    assert (error.message, error.diagnostics, error.rules) == ("pipeline 'p': no start", diagnostics, ["start"])


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b'{"error": 5}', b"\xff"])
def test_what_something_else_answers_is_typed(content: bytes) -> None:
    assert type(refusal_of(502, content)) is errors.ServiceBusyError
    assert type(refusal_of(418, content)) is errors.InputError
    assert type(refusal_of(302, content)) is errors.ReplyInvalidError


@pytest.mark.parametrize(
    "told",
    [
        {"code": "invalid_plan", "problems": [{"code": "x"}]},
        {"code": "invalid_plan", "problems": "no list"},
        {"code": "step_failed", "ids": {"message": "m", "hint": "h", "self": 1}},
        {"code": "run_failed", "ids": {"self": 1, "code": 2}},
        {"code": "parse_error", "line": "x", "ids": []},
        {"code": "pipeline_invalid", "diagnostics": 5},
        {"code": "new_one", "category": 5, "retryable": "yes", "hint": 5},
    ],
)
def test_a_strange_answer_is_an_error_of_the_tree_all_the_same(told: dict[str, Any]) -> None:
    error = refusal_of(422, orjson.dumps({"error": "strange"} | told))
    assert isinstance(error, PerdureError)
    assert error.message == "strange"
    assert error.to_dict()["code"] == told["code"]
