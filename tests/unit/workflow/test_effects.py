"""Kinds of effects: those that every run has, and those of users."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.core.errors import EffectError, InputTypeError, InvalidIdError
from perdure.workflow import effects
from perdure.workflow.effects import Effect, effect, effect_kinds, effect_problems, perform
from perdure.workflow.function import workflow
from perdure.workflow.graph import Fail, Next
from perdure.workflow.steps import step
from tests.unit.workflow.fake_run import FakeRun

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own registered kinds."""
    monkeypatch.setattr(effects, "_kinds", dict(effects._kinds))


@step(kind="pure")
def double(number: int, by: int = 2) -> int:
    return number * by


@workflow
async def child(run: FakeRun, n: int) -> int:
    return n


def test_every_run_has_these_kinds() -> None:
    built_in = {"ask", "emit", "put", "sleep", "sleep_until", "spawn", "step", "wait_for"}
    assert built_in <= set(effect_kinds())  # other tests register kinds of their own
    assert effect_kinds() == sorted(effect_kinds())


@pytest.mark.parametrize(
    ("kind", "params", "call"),
    [
        ("ask", {"text": "?", "timeout": "3d", "default": None}, ("ask", ("?",), {"timeout": "3d", "default": None})),
        ("ask", {"text": "?", "kind": "text", "key": "k"}, ("ask", ("?",), {"kind": "text", "key": "k"})),
        ("wait_for", {"signal": "paid", "match": "7"}, ("wait_for", ("paid",), {"match": "7"})),
        ("sleep", {"duration": "1h"}, ("sleep", ("1h",), {})),
        ("sleep_until", {"until": NOON}, ("sleep_until", (NOON,), {})),
        (
            "emit",
            {"name": "seen", "payload": {"a": 1}, "level": "verbose"},
            ("emit", ("seen", {"a": 1}), {"level": "verbose"}),
        ),
        ("put", {"value": b"data", "name": "n"}, ("put", (b"data",), {"name": "n"})),
        ("spawn", {"workflow": child, "input": {"n": 1}}, ("spawn", (child,), {"n": 1})),
        ("spawn", {"workflow": "child", "input": [1], "key": "k"}, ("spawn", ("child", 1), {"key": "k"})),
    ],
)
async def test_a_kind_is_the_call_of_the_run(kind: str, params: dict[str, Any], call: Any) -> None:
    run = FakeRun()
    assert await perform(run, Effect(kind, params, next="there")) == Next("there")
    assert run.calls == [call]


@pytest.mark.parametrize("args", [{"number": 4}, [4], [4, 2]])
async def test_a_step_is_called_with_its_arguments(args: Any) -> None:
    run = FakeRun()
    assert await perform(run, Effect("step", {"step": double, "args": args}, save_as="eight")) == Next()
    assert run.state == {"eight": 8}


async def test_a_child_is_awaited() -> None:
    run = FakeRun(answers={"spawn": {"done": True}})
    await perform(run, Effect("spawn", {"workflow": child, "input": {"n": 1}}, save_as="child"))
    assert run.state == {"child": {"done": True}}


async def test_an_artifact_is_kept_by_its_name() -> None:
    run = FakeRun()
    await perform(run, Effect("put", {"value": "text", "kind": "log"}, save_as="log"))
    assert run.state == {"log": "5a"}


async def test_arguments_are_a_list_or_a_dict() -> None:
    with pytest.raises(InputTypeError, match="not a str"):
        await perform(FakeRun(), Effect("step", {"step": double, "args": "4"}))


async def test_users_register_kinds_of_their_own() -> None:
    @effect("http.get", references=("client",))
    async def http_get(run: FakeRun, *, url: str, client: Any = None, **headers: str) -> str:
        await run.sleep(1)
        return f"{url} {headers}"

    run = FakeRun()
    params = {"url": "u", "client": object(), "accept": "text"}
    assert await perform(run, Effect("http.get", params, save_as="body")) == Next()
    assert run.state == {"body": "u {'accept': 'text'}"}
    assert effect_problems(Effect("http.get", {"accept": "text"}))[0].message == (
        "effect 'http.get': parameter 'url' is missing"
    )


async def test_an_error_of_the_kind_passes_through() -> None:
    @effect("fails")
    async def fails(run: FakeRun) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await perform(FakeRun(), Effect("fails"))


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        (Effect("telepathy"), ["unknown_effect"]),
        (Effect(7), ["unknown_effect"]),  # type: ignore[arg-type]
        (Effect("sleep", [1]), ["effect_params"]),  # type: ignore[arg-type]
        (Effect("sleep", {}), ["effect_params"]),
        (Effect("sleep", {"duration": 1, "more": 2}), ["effect_params"]),
        (Effect("emit", {"name": "e", "payload": {1: 2}}), ["effect_params"]),
        (Effect("emit", {"name": "e", "payload": float("nan")}), ["effect_params"]),
        (Effect("emit", {"name": "e", "payload": (1,)}), ["effect_params"]),
        (Effect("step", {"step": double, "args": [object()]}), ["effect_params"]),
        (Effect("sleep", {"length": 1}, save_as=""), ["save_as_invalid", "effect_params", "effect_params"]),
    ],
)
async def test_an_effect_that_cannot_be_done_fails_before_it_starts(value: Effect, codes: list[str]) -> None:
    run = FakeRun()
    failed = await perform(run, value)
    assert isinstance(failed, Fail)
    assert failed.code == codes[0]
    assert [problem["code"] for problem in failed.details["problems"]] == codes
    assert run.calls == []


# --- registering ------------------------------------------------------------------------------------------------------


def register(fn: Any, name: str = "mine") -> list[str]:
    with pytest.raises(EffectError) as caught:
        effect(name)(fn)
    assert caught.value.code == "invalid_effect"
    return caught.value.codes


def test_a_kind_is_an_async_function_that_takes_the_run() -> None:
    async def none() -> None: ...

    async def named(*, run: FakeRun) -> None: ...

    async def generator(run: FakeRun) -> Any:
        yield 1

    assert register(lambda run: None) == ["effect_not_async"]
    assert register(none) == ["signature_run_missing"]
    assert register(named) == ["signature_run_missing"]
    assert register(generator) == ["signature_generator"]
    assert register(7) == ["not_a_function"]
    assert "mine" not in effect_kinds()


def test_two_functions_under_one_name() -> None:
    async def other(run: FakeRun) -> None: ...

    assert register(other, "ask") == ["effect_duplicate"]


def test_the_same_function_from_another_import_of_its_file() -> None:
    def imported() -> Any:
        async def kind(run: FakeRun) -> None: ...

        return kind

    effect("mine")(imported())
    effect("mine")(imported())
    assert "mine" in effect_kinds()


def test_a_name_outside_the_grammar() -> None:
    with pytest.raises(InvalidIdError, match="effect kind"):
        effect("no spaces")
