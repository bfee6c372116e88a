"""A worker whose spans and logs go to files: `python -m tests.process.observed_program STORE SPANS LOGS TRAP`.

Each span and each record is one line, written at once by one `write`, so that a kill loses none that was exported. The
workflow hangs in its fourth step as long as the file TRAP exists; it says so on standard output, and is killed there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from perdure import Run, Runtime, current_step, step, workflow
from perdure.engine.logs import configure
from perdure.integrations.opentelemetry import OpenTelemetry

TRAP = Path(sys.argv[4]) if len(sys.argv) > 4 else Path("trap")


@step(kind="pure")
def compute(number: int) -> int:
    return number + 1


@step(kind="idempotent")
async def send(number: int) -> int:
    current_step().log.info("sending %s", number)
    return number


@step(kind="idempotent")
async def hang() -> None:
    current_step().log.info("attempt %s", current_step().attempt)
    if TRAP.exists():
        print("hanging", flush=True)
        await asyncio.Event().wait()


@workflow
async def story(run: Run) -> str:
    run.log.info("begun")
    await run.step(compute, 1)
    await run.step(send, 2)
    run.log.info("sent")
    await run.map(send, [3, 4])
    run.log.info("mapped")
    await run.step(hang)
    run.log.info("beyond")
    return "done"


class Lines(SpanExporter):
    """Each span is one line of a file."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            os.write(self._file, json.dumps(json.loads(span.to_json(indent=None))).encode() + b"\n")
        return SpanExportResult.SUCCESS


async def main(store: str, spans: str, logs: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Lines(spans)))
    with open(logs, "a", buffering=1) as stream:
        configure(form="json", level="info", stream=stream)
        async with Runtime(store, workflows=[story], observers=[OpenTelemetry(provider)]) as runtime:
            handle = await runtime.start(story, id="the-run")
            print(await handle.result(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
