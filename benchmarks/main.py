"""The command: rounds of all figures, contestants interleaved, then the report.

Every round measures every figure once; within a figure the contestants follow each other, and their order moves on by
one each round, so that nobody always runs first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.figures import FIGURES, Entry, Figure
from benchmarks.procedures import Bench, Sample, measure, opened_bench
from benchmarks.report import markdown

RESULTS = Path(__file__).resolve().parent / "results"
QUICK_ROUNDS = 2
QUICK_DIVISOR = 5
QUICK_LEAST_STEPS = 1500  # a flatness window must fit


def quick(figure: Figure) -> Figure:
    """The same figure with a fifth of the work: to see that everything runs, not to quote."""

    def smaller(entry: Entry) -> Entry:
        least = QUICK_LEAST_STEPS if figure.procedure == "flatness" else 10
        arguments = {
            name: max(min(value, least), value // QUICK_DIVISOR) if name in ("steps", "runs") else value
            for name, value in entry.arguments.items()
        }
        return replace(entry, arguments=arguments)

    return replace(figure, entries=tuple(smaller(entry) for entry in figure.entries))


def turns(figure: Figure, round_number: int, chosen: set[str]) -> Iterator[Entry]:
    """The contestants of one round in this round's order."""
    entries = [entry for entry in figure.entries if not chosen or entry.contestant in chosen]
    shift = round_number % len(entries) if entries else 0
    for entry in entries[shift:] + entries[:shift]:
        if entry.rounds is None or round_number < entry.rounds:
            yield entry


def run_rounds(bench: Bench, figures: Sequence[Figure], rounds: int, chosen: set[str]) -> Iterator[Sample]:
    for round_number in range(rounds):
        began = time.monotonic()
        for figure in figures:
            for entry in turns(figure, round_number, chosen):
                sample = measure(bench, figure, entry, round_number)
                values = ", ".join(f"{name} {value:.6g}" for name, value in sample.values.items())
                told = values or "FAILED: " + sample.error.splitlines()[-1]
                line = f"  {figure.name:16} {entry.contestant:21} {sample.took_s:5.1f} s   {told}"
                print(line, file=sys.stderr, flush=True)
                yield sample
        took = time.monotonic() - began
        load = os.getloadavg()[0]
        print(f"round {round_number + 1}/{rounds}: {took:.0f} s, load {load:.1f}", file=sys.stderr, flush=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Perdure measured beside its peers.")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (9)")
    parser.add_argument("--quick", action="store_true", help="small work and 2 rounds: only to see that it runs")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=[], help="only these figures")
    parser.add_argument("--contestants", nargs="+", default=[], help="only these contestants")
    parser.add_argument("--renew-constraints", action="store_true", help="take the newest peers and pin them")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    rounds: int = options.rounds or (QUICK_ROUNDS if options.quick else 9)
    figures = [FIGURES[name] for name in options.only or FIGURES]
    if options.quick:
        figures = [quick(figure) for figure in figures]
    began = time.monotonic()
    with opened_bench() as bench:
        facts = machine.facts(bench.disk, bench.memory)
        samples = list(run_rounds(bench, figures, rounds, set(options.contestants)))
    seconds = time.monotonic() - began
    versions = machine.versions()
    text = markdown(samples, facts, versions, seconds, smaller=options.quick)
    stem = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    everything = {"facts": facts, "versions": versions, "seconds": seconds, "samples": [asdict(s) for s in samples]}
    (RESULTS / f"{stem}.json").write_text(json.dumps(everything, indent=1))
    (RESULTS / f"{stem}.md").write_text(text)
    print(text)
    print(f"Written to benchmarks/results/{stem}.md and .json", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
