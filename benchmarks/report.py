"""The Markdown report: the table of goals, the durability of each contestant, and every figure in full."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import FIGURES
from benchmarks.peers import CONTESTANTS
from benchmarks.procedures import Sample

PEERS = ("dbos", "langgraph", "abstractruntime")
SYNCHRONOUS = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}


class Results:
    """Samples, found by figure, contestant and round."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = [sample for sample in samples if not sample.error]
        self.errors = [sample for sample in samples if sample.error]
        self._values = {(s.figure, s.contestant, s.round): s.values for s in self.samples}
        self.rounds = sorted({sample.round for sample in self.samples})

    def series(self, figure: str, contestant: str, value: str) -> list[float]:
        """One number a round, for the rounds in which it was measured."""
        found = (self._values.get((figure, contestant, number)) for number in self.rounds)
        return [values[value] for values in found if values is not None and value in values]

    def paired(
        self, first: tuple[str, str, str], second: tuple[str, str, str], combine: Callable[[float, float], float]
    ) -> list[float]:
        """Combine two numbers of the same round, for every round that has both."""
        combined: list[float] = []
        for number in self.rounds:
            pair = [self._values.get((figure, name, number), {}).get(value) for figure, name, value in (first, second)]
            if pair[0] is not None and pair[1] is not None:
                combined.append(combine(pair[0], pair[1]))
        return combined


def divide(first: float, second: float) -> float:
    return first / second


@dataclass(frozen=True)
class Goal:
    """A line of the table of goals.

    `series` gives, for a contestant, one number a round; `ours` names Perdure's contestant. `limit` is a lower bound if
    `higher_is_better`, else an upper one.
    """

    title: str
    unit: str
    limit: float
    higher_is_better: bool
    ours: str
    series: Callable[[Results, str], list[float]]

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.higher_is_better else value <= self.limit

    @property
    def bound(self) -> str:
        return f"{'≥' if self.higher_is_better else '≤'} {number(self.limit)} {self.unit}".rstrip()


def over_floor(figure: str, *, theirs_from: str = "") -> Callable[[Results, str], list[float]]:
    """The rate of a figure over the floor of the same round (peers may take theirs from another figure)."""

    def series(results: Results, name: str) -> list[float]:
        source = theirs_from if theirs_from and name in PEERS else figure
        return results.paired((source, name, "rate"), (source, "floor", "rate"), divide)

    return series


def over_peer(figure: str, peer: str) -> Callable[[Results, str], list[float]]:
    return lambda results, name: results.paired((figure, name, "rate"), (figure, peer, "rate"), divide)


def plain(figure: str, value: str) -> Callable[[Results, str], list[float]]:
    return lambda results, name: results.series(figure, name, value)


def beyond_one_commit(results: Results, name: str) -> list[float]:
    """Start latency less one commit of the same round's floor, in milliseconds."""
    pair = (("start", name, "ms"), ("start", "floor", "rate"))
    return results.paired(*pair, lambda milliseconds, commits_per_s: milliseconds - 1e3 / commits_per_s)


def carrying_costs(value: str) -> Callable[[Results, str], list[float]]:
    """A step's bytes with 1 MB of unchanged state over those without."""
    return lambda results, name: results.paired(("growth-carrying", name, value), ("growth", name, value), divide)


GOALS: tuple[Goal, ...] = (
    Goal("1 run × 1000 `idempotent` steps, over the floor", "×", 0.8, True, "perdure", over_floor("chain")),
    Goal("1 run × 1000 `once` steps, over the floor", "×", 0.8, True, "perdure-once", over_floor("chain")),
    Goal("200 runs × 10 `idempotent` steps, over the floor", "×", 5, True, "perdure", over_floor("fan")),
    Goal("200 runs × 10 `idempotent` steps, over DBOS", "×", 30, True, "perdure", over_peer("fan", "dbos")),
    Goal(
        "200 runs × 10 `idempotent` steps, over DBOS with plain functions",
        "×",
        30,
        True,
        "perdure",
        over_peer("fan", "dbos-sync"),
    ),
    Goal("the same on a RAM disk, one core", "steps/s", 15_000, True, "perdure", plain("fan-memory", "rate")),
    *(
        Goal(f"1 run × 5000 {title}, over the floor", "×", 8, True, name, over_floor("pure", theirs_from="chain"))
        for title, name in (
            ("`pure` steps (async)", "perdure-pure"),
            ("`read` steps (async)", "perdure-read"),
            ("`pure` steps (inline)", "perdure-inline"),
        )
    ),
    Goal("cost of the 10,000th step over the 100th", "×", 1.15, False, "perdure", plain("flat", "late_over_early")),
    Goal(
        "the same on a RAM disk (peers: 5000th, DBOS 3000th)",
        "×",
        1.15,
        False,
        "perdure",
        plain("flat-memory", "late_over_early"),
    ),
    Goal("database growth per effect step", "bytes", 1500, False, "perdure", plain("growth", "stored_per_step")),
    Goal("handed to `write` per effect step", "bytes", 24_000, False, "perdure", plain("growth", "written_per_step")),
    Goal(
        "growth with 1 MB of unchanged state, over without",
        "×",
        1.05,
        False,
        "perdure",
        carrying_costs("stored_per_step"),
    ),
    Goal(
        "handed to `write` with 1 MB of unchanged state, over without",
        "×",
        1.05,
        False,
        "perdure",
        carrying_costs("written_per_step"),
    ),
    Goal("recovery of 1000 runs killed in a step", "s", 0.3, False, "perdure", plain("recovery", "seconds")),
    Goal("1000 pending runs, begun by nobody, to all done", "s", 0.3, False, "perdure", plain("pending", "seconds")),
    Goal("`start` until the first step begins, beyond one commit", "ms", 1, False, "perdure", beyond_one_commit),
    Goal("import", "ms", 120, False, "perdure", plain("import", "ms")),
    Goal("load of a finished 10,000-step run's state", "ms", 150, False, "perdure", plain("load", "ms")),
)


def number(value: float) -> str:
    """Three significant digits, thousands marked."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(series: Sequence[float]) -> str:
    if not series:
        return "–"
    middle = number(statistics.median(series))
    return middle if len(series) == 1 else f"{middle} ({number(min(series))} – {number(max(series))})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(" --- " for _ in head) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def goals_table(results: Results) -> list[str]:
    rows: list[list[str]] = []
    for goal in GOALS:
        ours = goal.series(results, goal.ours)
        peers = [spread(goal.series(results, name)) for name in PEERS]
        if not ours and set(peers) == {"–"}:
            continue
        verdict = "–" if not ours else "reached" if goal.reached(statistics.median(ours)) else "**missed**"
        rows.append([goal.title, goal.bound, spread(ours), verdict, *peers])
    titles = [CONTESTANTS[name].title for name in PEERS]
    return table(["figure", "goal", "Perdure", "", *titles], rows)


def durability_table(results: Results) -> list[str]:
    settings: dict[str, Mapping[str, str]] = {}
    for sample in results.samples:
        if sample.settings:
            settings.setdefault(sample.contestant, sample.settings)
    rows: list[list[str]] = []
    for name, contestant in CONTESTANTS.items():
        values = settings.get(name)
        if values is None:
            continue
        synchronous = SYNCHRONOUS.get(values.get("synchronous", ""), "–")
        rows.append(
            [
                contestant.title,
                values.get("SQLite", "–"),
                values.get("journal_mode", "–").upper(),
                synchronous,
                spread(results.series("syncs", name, "per_step")),
                {"FULL": "yes", "EXTRA": "yes", "–": "–"}.get(synchronous, "no: the last commits may be lost"),
            ]
        )
    head = ["contestant", "SQLite", "journal", "synchronous", "disk syncs per step", "survives a power cut"]
    return table(head, rows)


def figure_tables(results: Results) -> list[str]:
    lines: list[str] = []
    for figure in FIGURES.values():
        values = sorted({v for s in results.samples if s.figure == figure.name for v in s.values})
        if not values:
            continue
        done = {s.contestant: s.arguments for s in results.samples if s.figure == figure.name}
        rows = [
            [CONTESTANTS[name].title, work(done[name]), *(spread(results.series(figure.name, name, v)) for v in values)]
            for name in (entry.contestant for entry in figure.entries)
            if name in done
        ]
        place = ", on a RAM disk" if figure.place == "memory" else ""
        lines += [f"### {figure.name}{place}{', one core' if figure.one_core else ''}", ""]
        lines += table(["contestant", "work", *values], rows)
    return lines


def work(arguments: Mapping[str, int]) -> str:
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in arguments.items()) or "–"


def failures(results: Results) -> list[str]:
    reasons: dict[tuple[str, str], str] = {}
    for sample in results.errors:
        reasons.setdefault((sample.figure, sample.contestant), sample.error.splitlines()[-1])
    lines = [f"- {figure}, {CONTESTANTS[name].title}: {reason}" for (figure, name), reason in reasons.items()]
    return ["## Not measured", "", *lines, ""] if lines else []


def markdown(
    samples: Sequence[Sample],
    facts: Mapping[str, str],
    versions: Mapping[str, str],
    seconds: float,
    *,
    smaller: bool = False,
) -> str:
    """The whole report. `smaller` marks a quick run, whose work was cut down."""
    results = Results(samples)
    floors = [v for figure in ("chain", "fan", "pure", "start") for v in results.series(figure, "floor", "rate")]
    lines = ["# Perdure beside its peers", ""]
    if smaller:
        lines += ["**A quick run with less work than the titles say: not to be quoted.**", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["- versions: " + ", ".join(f"{name} {value}" for name, value in versions.items())]
    lines += [f"- {len(results.rounds)} interleaved rounds in {seconds / 60:.1f} minutes"]
    lines += [f"- floor, commits/s: {spread(floors)} over {len(floors)} measurements", ""]
    lines += ["Medians over the rounds (least – greatest). A ratio is formed within each round.", ""]
    lines += ["## Goals", "", *goals_table(results), "## Durability", "", *durability_table(results)]
    lines += ["## Every figure", "", *figure_tables(results)]
    lines += failures(results)
    return "\n".join(lines)
