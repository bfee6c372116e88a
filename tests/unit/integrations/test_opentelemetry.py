"""Spans and metrics: one span for each step that is recorded, the same ids everywhere, and no content."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from perdure import Backoff, Limits, Run, RunFailed, Runtime, Secret, current_step, step, workflow
from perdure.core.errors import PerdureError
from perdure.engine.observing import ObservedStep
from perdure.integrations import opentelemetry
from perdure.integrations.opentelemetry import OpenTelemetry, trace_id_of
from perdure.model import CallableBackend, Message, ModelReply, ModelRequest, Usage, model_step
from perdure.store.memory import MemoryStore
from perdure.store.port import Store
from tests.unit.engine.staging import die


class Stand:
    """An exporter, a metric reader, and observers that report to them."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def observer(self) -> OpenTelemetry:
        return OpenTelemetry(self.provider, self.meters)

    def runtime(self, store: Store | str = "memory://", **options: Any) -> Runtime:
        return Runtime(store, observers=[self.observer()], **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def metric(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The points of a metric: by what it is divided, and its sum or count and sum."""
        data = self.reader.get_metrics_data()
        assert data is not None
        found = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        return [
            (dict(point.attributes or {}), point.value if hasattr(point, "value") else (point.count, point.sum))
            for metric in found
            for point in metric.data.data_points
        ]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return trace.format_trace_id(span.context.trace_id)


@step(kind="pure")
def double(number: int) -> int:
    return 2 * number


@step(kind="idempotent", retries=2, backoff=Backoff(initial_s=0.001))
async def send(text: str) -> str:
    if current_step().attempt < 3:
        raise ConnectionError("CANARY text of an error")
    return text


@workflow
async def report(run: Run) -> str:
    await run.step(double, 2)
    return await run.step(send, "CANARY input")


async def test_a_run_is_a_trace_with_one_span_for_each_step() -> None:
    stand = Stand()
    async with stand.runtime() as runtime:
        handle = await runtime.start(report)
        await handle.result()
    first, second, whole = stand.spans
    assert [first.name, second.name, whole.name] == ["double", "send", "report"]
    assert {trace_id(span) for span in stand.spans} == {trace_id_of(handle.id)}
    assert whole.parent is None
    assert [span.parent.span_id if span.parent else None for span in (first, second)] == [span_id(whole)] * 2
    assert attributes(second) == {
        "perdure.run.id": handle.id,
        "perdure.workflow": "report",
        "perdure.node": "main#1",
        "perdure.scope": "0/main#1",
        "perdure.step.key": "send",
        "perdure.step.name": "send",
        "perdure.step.kind": "idempotent",
        "perdure.attempts": 3,
    }
    assert [dict(event.attributes or {}) for event in second.events] == [
        {"perdure.attempt": 1, "error.type": "exception"},
        {"perdure.attempt": 2, "error.type": "exception"},
    ]
    assert attributes(whole)["perdure.status"] == "completed"
    assert all(span.start_time is not None and span.end_time is not None for span in stand.spans)
    assert all(span.start_time <= span.end_time for span in stand.spans)  # type: ignore[operator]
    assert "CANARY" not in "".join(span.to_json() for span in stand.spans)


async def test_what_a_step_begins_itself_is_within_its_span() -> None:
    stand = Stand()
    other = stand.provider.get_tracer("other")

    @step(kind="read")
    async def outer() -> None:
        with other.start_as_current_span("inner"):
            await asyncio.sleep(0)

    @step(kind="read", isolation="thread")
    def threaded() -> None:
        with other.start_as_current_span("inner"):
            pass

    @workflow
    async def nested(run: Run) -> None:
        await run.step(outer)
        assert not trace.get_current_span().get_span_context().is_valid
        await run.gather(run.step(outer), run.step(threaded))
        assert not trace.get_current_span().get_span_context().is_valid

    async with stand.runtime() as runtime:
        await (await runtime.start(nested)).result()
    inner = [span.parent.span_id for span in stand.named("inner") if span.parent is not None]
    assert sorted(inner) == sorted(map(span_id, [*stand.named("outer"), *stand.named("threaded")]))
    assert len({span_id(span) for span in stand.spans}) == len(stand.spans) == 7


async def test_failures_are_told_by_their_code_alone() -> None:
    stand = Stand()

    class DeclinedError(Exception):
        error_code = "declined"

    @step(kind="pure", raises=(DeclinedError,))
    def decline() -> None:
        raise DeclinedError("CANARY")

    @workflow
    async def failing(run: Run) -> None:
        await run.step(decline)

    async with stand.runtime() as runtime:
        with pytest.raises(RunFailed):
            await (await runtime.start(failing)).result()
    failed, whole = stand.spans
    assert attributes(failed)["error.type"] == "declined"
    assert not failed.status.is_ok
    assert attributes(whole).items() >= {"perdure.status": "failed", "error.type": "declined"}.items()
    assert "CANARY" not in "".join(span.to_json() for span in stand.spans)


async def test_recovery_doubles_no_span_and_keeps_the_ids() -> None:
    stand = Stand()
    reached, free = asyncio.Event(), asyncio.Event()

    @step(kind="idempotent")
    async def hang() -> int:
        reached.set()
        await free.wait()
        return current_step().attempt

    @workflow
    async def hanging(run: Run) -> int:
        await run.step(double, 1)
        await run.step(send, "before")
        return await run.step(hang)

    store = MemoryStore()
    runtime = stand.runtime(store, workflows=[hanging])
    await runtime.open()
    handle = await runtime.start(hanging)
    await reached.wait()
    await die(runtime)
    assert [span.name for span in stand.spans] == ["double", "send"]
    free.set()
    async with stand.runtime(store, workflows=[hanging]) as again:
        assert await again.run(handle.id).result() == 2
    assert [span.name for span in stand.spans] == ["double", "send", "hang", "hanging"]
    assert len({span_id(span) for span in stand.spans}) == 4
    (hung,) = stand.named("hang")
    assert attributes(hung)["perdure.attempts"] == 2
    assert {trace_id(span) for span in stand.spans} == {trace_id_of(handle.id)}
    assert stand.metric("perdure.recoveries") == [({"perdure.workflow": "hanging"}, 1)]
    assert sum(value for _, value in stand.metric("perdure.steps")) == 3


async def test_a_fact_that_is_not_durable_has_no_span() -> None:
    stand = Stand()
    reached, free = asyncio.Event(), asyncio.Event()

    @step(kind="read")
    async def hang() -> None:
        reached.set()
        await free.wait()

    @workflow
    async def quick(run: Run) -> None:
        await run.step(double, 1)
        await run.step(hang)

    seen: list[tuple[str, bool]] = []
    store = MemoryStore()

    class Look(OpenTelemetry):
        def step_ended(self, step: ObservedStep) -> None:
            durable = [event.key for event in store_events(store, step.run_id) if event.kind == "step.completed"]
            seen.append((step.key, step.key in durable))
            super().step_ended(step)

    async with Runtime(store, observers=[Look(stand.provider, stand.meters)], workflows=[quick]) as runtime:
        handle = await runtime.start(quick)
        await reached.wait()
        free.set()
        await handle.result()
    assert seen == [("double", True), ("hang", True)]


def store_events(store: MemoryStore, run_id: str) -> list[Any]:
    """What is committed, read without awaiting."""
    reading = store.read(run_id)
    try:
        reading.send(None)
    except StopIteration as done:
        return list(done.value)
    raise AssertionError("the memory store awaited something")


async def test_a_wait_and_its_replay_make_no_span() -> None:
    stand = Stand()

    @workflow
    async def patient(run: Run) -> None:
        await run.step(double, 1)
        await run.wait_for("go")

    store = MemoryStore()
    async with stand.runtime(store, workflows=[patient], limits=Limits(linger_s=0.0)) as runtime:
        handle = await runtime.start(patient)
        with runtime.hub.watch(handle.id) as grown:
            while await handle.status() != "waiting":
                await grown.wait()
                grown.clear()
    async with stand.runtime(store, workflows=[patient]) as runtime:
        await runtime.signal("go", run_id=handle.id)
        await runtime.run(handle.id).result()
    assert [span.name for span in stand.spans] == ["double", "patient"]
    told = {place["perdure.status"]: value for place, value in stand.metric("perdure.runs")}
    assert told == {"waiting": 1, "completed": 1}


async def test_a_child_links_to_its_parent() -> None:
    stand = Stand()

    @workflow
    async def parent(run: Run) -> str:
        return await (await run.spawn(report)).result()

    async with stand.runtime(workflows=[parent, report]) as runtime:
        handle = await runtime.start(parent)
        await handle.result()
    (above,), (below,) = stand.named("parent"), stand.named("report")
    (link,) = below.links
    assert (link.context.trace_id, link.context.span_id) == (
        above.context.trace_id if above.context else None,
        span_id(above),
    )
    assert trace_id(below) != trace_id(above)


async def test_a_run_that_is_opened_again_has_spans_of_its_own() -> None:
    stand = Stand()
    broken = [True]

    @step(kind="pure")
    def fragile() -> None:
        if broken[0]:
            raise ValueError("no")

    @workflow
    async def mended(run: Run) -> None:
        await run.step(fragile)

    async with stand.runtime() as runtime:
        handle = await runtime.start(mended)
        with pytest.raises(RunFailed):
            await handle.result()
        broken[0] = False
        await runtime.retry(handle.id)
        await handle.result()
    assert [span.name for span in stand.spans] == ["fragile", "mended"] * 2
    assert len({span_id(span) for span in stand.spans}) == 4


async def test_a_model_step_tells_who_answered_and_at_what_cost_and_not_what_was_said() -> None:
    stand = Stand()
    usage = Usage(11, 7, 5, 3)
    asking = model_step(CallableBackend(lambda request: ModelReply("CANARY answer", "served-1", usage, "stop")))
    request = ModelRequest(
        (Message("user", "CANARY question"),), model="small", provider="somebody", max_output_tokens=9, temperature=0.5
    )

    @workflow
    async def chat(run: Run) -> str:
        return (await run.step(asking, request)).text

    async with stand.runtime() as runtime:
        await (await runtime.start(chat)).result()
    (asked,) = stand.named("ask_model")
    assert asked.kind is trace.SpanKind.CLIENT
    told = {name: value for name, value in attributes(asked).items() if name.startswith("gen_ai.")}
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "somebody",
        "gen_ai.request.model": "small",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "served-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 3,
    }
    assert "CANARY" not in "".join(span.to_json() for span in stand.spans)
    tokens = {place["gen_ai.token.type"]: value for place, value in stand.metric("gen_ai.client.token.usage")}
    assert tokens == {"input": (1, 11), "output": (1, 7)}


async def test_a_secret_is_in_no_attribute() -> None:
    stand = Stand()

    @step(kind="read")
    async def careless(secret: Secret) -> str:
        value = current_step().reveal(secret)
        raise ValueError(value)

    @workflow
    async def leaking(run: Run) -> None:
        await run.step(careless, Secret("env:KEY"))

    async with stand.runtime(environ={"KEY": "canary-0123456789"}) as runtime:
        with pytest.raises(RunFailed):
            await (await runtime.start(leaking)).result()
    assert len(stand.spans) == 2
    assert "canary-0123456789" not in "".join(span.to_json() for span in stand.spans)


async def test_a_sampler_decides_for_a_whole_trace_and_everywhere_alike() -> None:
    stand = Stand(sampler=TraceIdRatioBased(0.5))
    async with stand.runtime() as runtime:
        for number in range(40):
            await (await runtime.start(report, id=f"run-{number}")).result()
    traces: dict[str, set[str]] = {}
    for span in stand.spans:
        traces.setdefault(trace_id(span), set()).add(span.name)
    assert 5 < len(traces) < 35
    assert all(names == {"double", "send", "report"} for names in traces.values())


async def test_an_observer_that_fails_harms_no_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(OpenTelemetry):
        def step_begun(self, step: ObservedStep) -> None:
            raise RuntimeError("broken")

        step_left = step_ended = step_begun

    async with Runtime("memory://", observers=[Broken()]) as runtime:
        assert await (await runtime.start(report)).result() == "CANARY input"
    assert "the observer Broken failed" in caplog.text


async def test_without_a_provider_nothing_is_exported_and_nothing_breaks() -> None:
    async with Runtime("memory://", observers=[OpenTelemetry()]) as runtime:
        assert await (await runtime.start(report)).result() == "CANARY input"


def test_without_the_extra_the_module_says_what_is_missing() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import perdure.integrations.opentelemetry\n"
        "except Exception as error:\n    print(error.code, '|', error.hint)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout == "telemetry_extra_missing | pip install 'perdure[telemetry]'\n"
    assert issubclass(PerdureError, Exception)


def test_the_engine_does_not_load_telemetry() -> None:
    program = "import sys, perdure, perdure.engine.runtime; print('opentelemetry' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout == "False\n"


async def test_names_without_end_do_not_make_metrics_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentelemetry, "MOST_NAMES", 3)
    stand = Stand()

    def named(number: int) -> Any:
        @workflow(name=f"submitted-{number}")
        async def main(run: Run) -> int:
            return await run.step(double, number)

        return main

    async with stand.runtime() as runtime:
        for number in range(6):
            await (await runtime.start(named(number))).result()
    counted = {told["perdure.workflow"]: value for told, value in stand.metric("perdure.runs")}
    assert counted == {"submitted-0": 1, "submitted-1": 1, "submitted-2": 1, "_OTHER": 3}
    assert {told["perdure.workflow"] for told, _ in stand.metric("perdure.step.duration")} == set(counted)
    assert {span.name for span in stand.spans} >= {f"submitted-{number}" for number in range(6)}


async def test_the_sdk_is_asked_for_a_tracer_once() -> None:
    """Each time it changes the process's warning filters, after which every warning is shown anew."""
    stand = Stand()
    asked: list[str] = []
    provider = stand.provider
    get_tracer = provider.get_tracer
    provider.get_tracer = lambda *told, **more: asked.append(told[0]) or get_tracer(*told, **more)  # type: ignore
    async with stand.runtime() as runtime:
        for _ in range(3):
            await (await runtime.start(report)).result()
    assert asked == ["perdure"]
    assert len(stand.named("report")) == 3
