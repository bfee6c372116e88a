"""The numbers of a service in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perdure.journal.state import TERMINAL

STATUSES = ("pending", "running", "waiting", "paused", *sorted(TERMINAL))


def exposition(stats: Mapping[str, Any], *, streams: int, webhooks: Mapping[str, int]) -> str:
    """The text that a scrape is given.

    Args:
        stats: see `Runtime.stats`.
        streams: how many follow a run now.
        webhooks: see `Webhooks.numbers`.
    """
    runs = stats["runs"]
    alive = sum(1 for worker in stats["workers"] if worker["alive"])
    lines = [
        *_metric(
            "perdure_runs", "gauge", "Runs in the store.", [(one, runs.get(one, 0)) for one in STATUSES], "status"
        ),
        *_metric("perdure_executing", "gauge", "Runs that this process executes.", [("", stats["executing"])]),
        *_metric("perdure_workers_alive", "gauge", "Workers of the store that live.", [("", alive)]),
        *_metric("perdure_streams", "gauge", "Streams of events that are open here.", [("", streams)]),
        *_metric("perdure_commits_total", "counter", "Commits of this process.", [("", stats["commits"])]),
        *_metric("perdure_appends_total", "counter", "Appends of this process.", [("", stats["appends"])]),
        *_metric("perdure_recovered_total", "counter", "Runs that were recovered here.", [("", stats["recovered"])]),
        *_metric(
            "perdure_webhooks", "gauge", "Endpoints to which this process delivers.", [("", webhooks["endpoints"])]
        ),
        *_metric(
            "perdure_webhooks_pending", "gauge", "Messages that wait to be accepted.", [("", webhooks["pending"])]
        ),
        *_metric(
            "perdure_webhook_deliveries_total",
            "counter",
            "Messages that were accepted or given up, and attempts that failed.",
            [(one, webhooks[one]) for one in ("delivered", "failed", "given_up")],
            "outcome",
        ),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, meaning: str, values: Iterable[tuple[str, int]], label: str = "") -> Iterable[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for text, value in values:
        yield f'{name}{{{label}="{text}"}} {value}' if label else f"{name} {value}"
