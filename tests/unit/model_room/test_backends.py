"""Backends that need no network: functions and simulation; and how the real one is configured."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from typing import Any

import pytest

from perdure import Backoff, BlockingRun, Plan, Run, Secret, StepFailed, workflow
from perdure.core.errors import SecretError
from perdure.model import (
    CallableBackend,
    ModelConfigurationError,
    ModelExtraMissingError,
    ModelReply,
    ModelReplyError,
    ModelRequest,
    OpenAIBackend,
    SimulatedBackend,
    Usage,
    ask,
    configured_backend,
    model_step,
    request_model,
)
from perdure.model.port import Backend
from perdure.store.memory import MemoryStore
from tests.unit.engine.staging import events_of, running

pytestmark = pytest.mark.time_limit(30)

# --- functions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("Hi", ModelReply("Hi", "model")),
        (ModelReply("Hi", "m", Usage(1, 2)), ModelReply("Hi", "m", Usage(1, 2))),
        ({"text": "Hi", "usage": {"input_tokens": 3}}, ModelReply("Hi", usage=Usage(3))),
        ({"status": "success", "notes": ["b", 1]}, ModelReply('{"notes":["b",1],"status":"success"}', "model")),
    ],
)
async def test_a_function_answers_with_text_a_reply_or_a_dict(answer: Any, reply: ModelReply) -> None:
    def model(_request: ModelRequest) -> Any:
        return answer

    async def model_later(_request: ModelRequest) -> Any:
        return answer

    for function in (model, model_later, functools.partial(model), lambda request: model_later(request)):
        told: list[str] = []
        backend = CallableBackend(function, name="model")
        assert await backend.complete(ask("Hello"), on_text=told.append) == reply
        assert told == [reply.text]


@pytest.mark.parametrize("answer", [None, 3, ["Hi"], {"text": 3}, {"text": "Hi", "cost": 3}, {"a": float("nan")}])
async def test_an_answer_that_is_none_is_refused(answer: Any) -> None:
    with pytest.raises(ModelReplyError, match="the model function 'model'"):
        await CallableBackend(lambda _: answer, name="model").complete(ask("Hello"))


class Client:
    """An object that can be called, as some libraries' clients."""

    async def __call__(self, request: ModelRequest) -> str:
        return f"{threading.current_thread() is threading.main_thread()} {request.messages[0].content}"


async def test_an_async_object_is_called_in_the_loop_and_a_plain_function_in_a_thread() -> None:
    assert (await CallableBackend(Client()).complete(ask("Hello"))).text == "True Hello"
    seen: list[threading.Thread] = []

    def model(_request: ModelRequest) -> str:
        seen.append(threading.current_thread())
        return "Hi"

    await CallableBackend(model).complete(ask("Hello"))
    assert seen[0] is not threading.main_thread()
    assert seen[0].daemon  # it never delays the exit
    seen[0].join(10)
    assert not seen[0].is_alive()


def test_a_backend_is_called_as_its_function() -> None:
    def model(_request: ModelRequest) -> str:
        return ""

    assert (CallableBackend(model).name, CallableBackend(Client()).name) == ("model", "Client")
    with pytest.raises(ModelConfigurationError):
        CallableBackend("model")  # type: ignore[arg-type]


async def test_a_function_that_fails_is_asked_again_until_its_attempts_are_used_up() -> None:
    asked: list[ModelRequest] = []

    def model(request: ModelRequest) -> str:
        asked.append(request)
        raise KeyError("boom")

    @workflow
    async def main(run: Run) -> list[str]:
        try:
            await run.step(
                model_step(CallableBackend(model)).options(retries=1, backoff=Backoff(initial_s=0.0)), ask("Hello")
            )
        except StepFailed as error:
            return [error.error_code, error.error_type, error.message]
        return []

    async with running(MemoryStore(), main) as runtime:
        assert await (await runtime.start(main)).result() == ["model_call_failed", "KeyError", "'boom'"]
    assert asked == [ask("Hello")] * 2


# --- simulation -------------------------------------------------------------------------------------------------------


async def test_a_simulated_reply_names_the_stage_and_costs_nothing() -> None:
    @workflow
    async def main(run: Run) -> ModelReply:
        request = ModelRequest(ask("Hello").messages, metadata={"stage": "plan"})
        return await request_model(run, SimulatedBackend(), request, key="plan")

    async with running(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        reply = await handle.result()
        (fact,) = await events_of(handle, "step.completed")
    assert reply.text == "[Simulated] Response for stage: plan"
    assert (reply.usage, reply.simulated) == (Usage(), True)
    assert (fact.key, fact.data["result"]["simulated"]) == ("plan", True)


# --- the step ---------------------------------------------------------------------------------------------------------


def test_a_model_request_is_a_read_that_is_committed_at_once() -> None:
    policy = model_step().policy
    assert (policy.kind, policy.commit_now, policy.effect) == ("read", True, False)
    assert policy.give_up_after_s is not None


async def test_the_step_is_used_like_any_other_in_plans_and_plain_workflows() -> None:
    plan = Plan("asking", output="talk.ask.model", input={"request": ModelRequest})
    plan.state("talk.ask.model", model_step(SimulatedBackend()))

    @workflow
    def plain(run: BlockingRun) -> ModelReply:
        reply: ModelReply = run.step(model_step(SimulatedBackend()), request)
        return reply

    request = ModelRequest(ask("Hello").messages, metadata={"stage": "plan"})
    async with running(MemoryStore(), plan, plain) as runtime:
        planned = await (await runtime.start(plan, request=request)).result()  # the output of a plan declares no type
        replied = await (await runtime.start(plain)).result()
    assert planned["text"] == replied.text == "[Simulated] Response for stage: plan"


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url", "key", "model"),
    [
        ({"PERDURE_MODEL_URL": "http://host:1/v1/"}, "http://host:1/v1", None, None),
        (
            {"PERDURE_MODEL_URL": "http://host/v1", "PERDURE_MODEL_KEY": "long-key", "PERDURE_MODEL": "small"},
            "http://host/v1",
            Secret("env:PERDURE_MODEL_KEY"),
            "small",
        ),
        ({"OPENAI_API_KEY": "long-key"}, "https://api.openai.com/v1", Secret("env:OPENAI_API_KEY"), None),
        ({"OPENAI_BASE_URL": "http://host/v1", "PERDURE_MODEL": "m"}, "http://host/v1", None, "m"),
        # A key goes to the URL of its own pair only.
        ({"PERDURE_MODEL_URL": "http://host/v1", "OPENAI_API_KEY": "long-key"}, "http://host/v1", None, None),
        (
            {"PERDURE_MODEL_URL": "", "PERDURE_MODEL_KEY": "other", "OPENAI_API_KEY": "long-key"},
            "https://api.openai.com/v1",
            Secret("env:OPENAI_API_KEY"),
            None,
        ),
    ],
)
def test_the_environment_names_a_backend(
    environment: dict[str, str], url: str, key: Secret | None, model: str | None
) -> None:
    backend = configured_backend(environment)
    assert isinstance(backend, OpenAIBackend)
    assert (backend.base_url, backend.api_key, backend.model) == (url, key, model)
    assert "long-key" not in repr(backend) + repr(vars(backend))


@pytest.mark.parametrize("environment", [{}, {"PERDURE_MODEL": "m"}, {"PERDURE_MODEL_URL": "", "OPENAI_API_KEY": ""}])
def test_without_a_url_or_key_no_backend_is_named(environment: dict[str, str]) -> None:
    assert configured_backend(environment) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        "host/v1",
        "ftp://host/v1",
        "file:///etc/passwd",
        "http://",
        "https:///v1",
        "http://user:canary@host/v1",
        "http://canary@host/v1",
        "http://host/v1?key=canary",
        "http://host/v1#canary",
        "http://host:99999/v1",
        "http://host:port/v1",
        "http://[::1/v1",
        "http://ho st/v1",
        "http://host\\@evil/v1",
        "http://host/v1\r\nX-Evil: canary",
    ],
)
def test_a_base_url_that_cannot_be_used_is_refused_unseen(url: Any) -> None:
    with pytest.raises(ModelConfigurationError) as raised:
        OpenAIBackend(url)
    assert "canary" not in str(raised.value.to_dict())


@pytest.mark.parametrize(
    "headers",
    [
        {"X Team": "blue"},
        {"": "blue"},
        {"X-Team": "blue\r\nX-Evil: yes"},
        {"X-Team": "grün"},
        {"X-Team": 3},
        {"Host": "evil"},
        {"Content-Length": "3"},
        {"X-Team": "blue", "x-team": "red"},
        {"Authorization": "Bearer canary"},
        {"X-Key": "sk-canary0123456789canary0123456789"},
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_unseen(headers: dict[str, Any]) -> None:
    with pytest.raises(ModelConfigurationError) as raised:
        OpenAIBackend("http://host/v1", headers=headers)
    assert "canary" not in str(raised.value.to_dict())


def test_a_key_in_plain_is_refused_unseen() -> None:
    with pytest.raises(SecretError) as raised:
        OpenAIBackend("http://host/v1", api_key="canary-key")  # type: ignore[arg-type]
    assert "canary" not in str(raised.value.to_dict())


def test_two_ways_to_log_in_are_one_too_many() -> None:
    with pytest.raises(ModelConfigurationError, match="twice"):
        OpenAIBackend("http://host/v1", api_key=Secret("env:A"), headers={"Authorization": Secret("env:B")})


async def test_a_request_without_a_model_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ModelConfigurationError, match="no model is named"):
        await OpenAIBackend("http://host/v1").complete(ask("Hello"))


async def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.delitem(sys.modules, "perdure.model.exchange", raising=False)
    with pytest.raises(ModelExtraMissingError) as raised:
        await OpenAIBackend("http://host/v1", model="small").complete(ask("Hello"))
    assert raised.value.hint == "pip install 'perdure[model]'"


def test_the_room_loads_no_http_library_before_the_first_request() -> None:
    program = "import sys, perdure.model; print('httpx2' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "False\n"
    )


def test_all_backends_are_backends() -> None:
    backends: list[Backend] = [
        SimulatedBackend(),
        CallableBackend(lambda _: "Hi", name="mine"),
        OpenAIBackend("http://host/v1", name="theirs"),
    ]
    assert [backend.name for backend in backends] == ["simulation", "mine", "theirs"]
