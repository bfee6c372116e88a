"""Timers: the run sleeps, and no process need live that long.

    perdure run examples/timer.py --input pause=2s --input times=3

The instant at which a sleep ends is recorded. Kill the process while it sleeps (Ctrl-C will do), start it again with
`perdure run examples/timer.py --id RUN`, and it sleeps only for what is left; if the instant has passed, not at all.
"""

from __future__ import annotations

from datetime import timedelta

from perdure import Run, workflow


@workflow
async def timer(run: Run, pause: str = "2s", times: int = 3) -> list[float]:
    """Sleep several times.

    Args:
        pause: for example `500ms`, `2s`, `1h` or `30d`.
        times: how often.

    Returns:
        After how many seconds each sleep was over.
    """
    began = run.now()
    woken: list[float] = []
    for number in range(1, times + 1):
        await run.sleep(pause)
        elapsed: timedelta = run.now() - began
        woken.append(elapsed.total_seconds())
        run.emit("timer.woken", {"number": number, "elapsed_s": woken[-1]})
    return woken
