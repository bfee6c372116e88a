"""OpenTelemetry: a span for each run and step that is recorded, and metrics.

```python
from perdure import Runtime
from perdure.integrations.opentelemetry import OpenTelemetry

runtime = Runtime("sqlite:///runs.db", observers=[OpenTelemetry()])
```

A trace is a run: its trace id is hashed from the run's id, and the ids of its spans from their places in it, so that
they are the same in whatever process a run goes on. A step has one span, by the process whose attempt is recorded, over
all attempts; those that failed before are events of it. A run has one span, by the process in which it ends; the run
of a child links to that of its parent. A span ends when what it tells of is durable. Recorded facts that replayed code
is given make no span.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from perdure.core.errors import TelemetryExtraMissingError
from perdure.core.version import VERSION
from perdure.engine.observing import ObservedRun, ObservedStep
from perdure.integrations import gen_ai
from perdure.model.reply import ModelReply

try:
    from opentelemetry import context, metrics, trace
except ModuleNotFoundError as missing:
    raise TelemetryExtraMissingError("telemetry needs the package opentelemetry-api") from missing

if TYPE_CHECKING:
    from opentelemetry.context import Context

NAME: Final = "perdure"
ENDED: Final = ("completed", "failed", "cancelled")
MOST_NAMES: Final = 1000
"""How many workflows, steps, models and codes of errors metrics tell apart."""
OTHER: Final = "_OTHER"
"""What stands for the names beyond that, as in OpenTelemetry's conventions."""
_NS_IN_MS: Final = 1_000_000

_wanted: ContextVar[tuple[int, int] | None] = ContextVar("perdure_span", default=None)
"""Trace id and span id of the span that is just being started."""


class OpenTelemetry:
    """The observer of a runtime.

    Args:
        tracer_provider: the program's own if omitted, as it is when the first span begins.
        meter_provider: likewise.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._made: tuple[trace.TracerProvider, trace.Tracer] | None = None
        self._meters = _Meters(metrics.get_meter(NAME, VERSION, meter_provider))
        self._open: WeakKeyDictionary[ObservedStep, _Open] = WeakKeyDictionary()

    # --- steps --------------------------------------------------------------------------------------------------------

    def step_begun(self, step: ObservedStep) -> None:
        """See `Observer.step_begun`: the step's span is the current one while its function runs."""
        request = gen_ai.request_of(step.args)
        attributes: dict[str, gen_ai.Attribute] = {
            "perdure.run.id": step.run_id,
            "perdure.workflow": step.workflow,
            "perdure.node": step.node,
            "perdure.scope": step.scope,
            "perdure.step.key": step.key,
            "perdure.step.name": step.name,
            "perdure.step.kind": step.kind,
        }
        if request is not None:
            attributes |= gen_ai.request_attributes(request)
        tracer = self._tracer()
        root = _root(tracer, step.run_id, step.reopened)
        span = _started(
            tracer,
            step.name,
            (root.trace_id, _hashed(8, "step", step.run_id, step.reopened, step.scope, step.key)),
            within=trace.set_span_in_context(trace.NonRecordingSpan(root), context.Context()),
            kind=trace.SpanKind.INTERNAL if request is None else trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=step.begun_ms * _NS_IN_MS,
        )
        self._open[step] = _Open(span, context.attach(trace.set_span_in_context(span)))

    def step_left(self, step: ObservedStep) -> None:
        """See `Observer.step_left`."""
        found = self._open.get(step)
        if found is not None:
            context.detach(found.token)

    def step_ended(self, step: ObservedStep) -> None:
        """See `Observer.step_ended`."""
        found = self._open.pop(step, None)
        self._meters.step(step)
        if found is None:
            return
        span = found.span
        for failed in step.failed_attempts:
            told: dict[str, gen_ai.Attribute] = {"perdure.attempt": failed.attempt, "error.type": failed.code}
            span.add_event("perdure.attempt.failed", told, timestamp=failed.time_ms * _NS_IN_MS)
        span.set_attribute("perdure.attempts", step.attempts)
        if isinstance(step.value, ModelReply):
            span.set_attributes(gen_ai.reply_attributes(step.value))
        if step.error is not None:
            span.set_attribute("error.type", step.error)
            span.set_status(trace.StatusCode.ERROR, step.error)
        span.end(max(step.ended_ms, step.begun_ms) * _NS_IN_MS)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def run_changed(self, run: ObservedRun) -> None:
        """See `Observer.run_changed`."""
        self._meters.run(run)
        if run.status not in ENDED:
            return
        tracer = self._tracer()
        root = _root(tracer, run.run_id, run.reopened)
        parent = _root(tracer, run.parent_id, 0) if run.parent_id is not None else None
        about = {"perdure.run.id": run.run_id, "perdure.workflow": run.workflow, "perdure.version": run.version}
        span = _started(
            tracer,
            run.workflow,
            (root.trace_id, root.span_id),
            within=context.Context(),
            attributes={**about, "perdure.status": run.status},
            links=[trace.Link(parent)] if parent is not None else [],
            start_time=run.started_ms * _NS_IN_MS,
        )
        if run.status == "failed":
            span.set_attribute("error.type", run.reason or "exception")
            span.set_status(trace.StatusCode.ERROR, run.reason)
        span.end(max(run.time_ms, run.started_ms) * _NS_IN_MS)

    def _tracer(self) -> trace.Tracer:
        provider = self._tracer_provider or trace.get_tracer_provider()
        if self._made is None or self._made[0] is not provider:  # asking the SDK resets the process's warning filters
            self._made = provider, self._named(provider)
        return self._made[1]

    @staticmethod
    def _named(provider: trace.TracerProvider) -> trace.Tracer:
        tracer = provider.get_tracer(NAME, VERSION)
        otherwise = getattr(tracer, "id_generator", None)  # the SDK's have one; for others the ids are their own
        if otherwise is not None and not isinstance(otherwise, _HashedIds):
            tracer.id_generator = _HashedIds(otherwise)  # type: ignore[attr-defined]
        return tracer


class _Open:
    """A step's span that has not ended."""

    __slots__ = ("span", "token")

    def __init__(self, span: trace.Span, token: Token[Context]) -> None:
        self.span = span
        self.token = token


# --- ids --------------------------------------------------------------------------------------------------------------


class _HashedIds:
    """Gives the SDK the ids that are wanted; of everything else, those of its own generator."""

    def __init__(self, otherwise: Any) -> None:
        self._otherwise = otherwise

    def generate_trace_id(self) -> int:
        wanted = _wanted.get()
        return wanted[0] if wanted is not None else int(self._otherwise.generate_trace_id())

    def generate_span_id(self) -> int:
        wanted = _wanted.get()
        return wanted[1] if wanted is not None else int(self._otherwise.generate_span_id())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._otherwise, name)


def _hashed(size: int, *place: object) -> int:
    """An id of so many bytes for a place; none is 0."""
    digest = sha256("\x00".join(map(str, ("perdure", *place))).encode()).digest()
    return int.from_bytes(digest[:size]) or 1


def trace_id_of(run_id: str) -> str:
    """The trace id of a run, as it is written: 32 hexadecimal digits."""
    return trace.format_trace_id(_hashed(16, "trace", run_id))


def _root(tracer: trace.Tracer, run_id: str, reopened: int) -> trace.SpanContext:
    """The run's span, which need not have been started yet. The sampler decides by the trace's id, everywhere alike."""
    trace_id = _hashed(16, "trace", run_id)
    sampled = True
    sampler = getattr(tracer, "sampler", None)
    if sampler is not None:
        sampled = sampler.should_sample(context.Context(), trace_id, NAME).decision.is_sampled()
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
    return trace.SpanContext(trace_id, _hashed(8, "run", run_id, reopened), is_remote=True, trace_flags=flags)


def _started(tracer: trace.Tracer, name: str, ids: tuple[int, int], *, within: Context, **options: Any) -> trace.Span:
    token = _wanted.set(ids)
    try:
        return tracer.start_span(name, within, **options)
    finally:
        _wanted.reset(token)


# --- metrics ----------------------------------------------------------------------------------------------------------


class _Names:
    """The first names that come; all others are one. What metrics are divided by is kept as long as the process lives,
    and pipelines that are submitted bring names of their own."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= MOST_NAMES:
                return OTHER
            self._known.add(name)
        return name


class _Meters:
    """What is counted and measured."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._workflows, self._steps_named, self._models, self._errors = _Names(), _Names(), _Names(), _Names()
        self._steps = meter.create_counter("perdure.steps", "{step}", "Steps whose fact is durable")
        self._step_s = meter.create_histogram("perdure.step.duration", "s", "From its first attempt to its fact")
        self._runs = meter.create_counter("perdure.runs", "{run}", "Changes of a run's status in this process")
        self._run_s = meter.create_histogram("perdure.run.duration", "s", "From a run's start to its end")
        self._recoveries = meter.create_counter("perdure.recoveries", "{run}", "Runs taken over from lost workers")
        self._tokens = meter.create_histogram(gen_ai.TOKEN_USAGE, "{token}", "Tokens of a model request")
        self._model_s = meter.create_histogram(gen_ai.DURATION, "s", "Duration of a model request")

    def step(self, step: ObservedStep) -> None:
        duration_s = max(0, step.ended_ms - step.begun_ms) / 1000
        place = {
            "perdure.workflow": self._workflows.of(step.workflow),
            "perdure.step.name": self._steps_named.of(step.name),
            "perdure.step.kind": step.kind,
            "perdure.outcome": step.outcome,
        }
        self._steps.add(1, place)
        self._step_s.record(duration_s, place)
        request = gen_ai.request_of(step.args)
        if request is None:
            return
        reply = step.value if isinstance(step.value, ModelReply) else None
        told = gen_ai.metric_attributes(request, reply)
        told = {name: self._models.of(value) if isinstance(value, str) else value for name, value in told.items()}
        self._model_s.record(duration_s, told | ({"error.type": self._errors.of(step.error)} if step.error else {}))
        if reply is not None:
            self._tokens.record(reply.usage.input_tokens, told | {gen_ai.TOKEN_TYPE: "input"})
            self._tokens.record(reply.usage.output_tokens, told | {gen_ai.TOKEN_TYPE: "output"})

    def run(self, run: ObservedRun) -> None:
        place = {"perdure.workflow": self._workflows.of(run.workflow)}
        if run.status == "running":
            self._recoveries.add(1, place)
            return
        place["perdure.status"] = run.status
        self._runs.add(1, place)
        if run.status in ENDED:
            self._run_s.record(max(0, run.time_ms - run.started_ms) / 1000, place)
