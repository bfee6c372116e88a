"""A `Plan`: states with dependencies, fanned out with a limit, and tags by which states can be skipped.

    perdure run examples/plan_fan_out.py --input folder=perdure
    perdure run examples/plan_fan_out.py --input folder=perdure --skip-tag slow

    survey.list.files ──┬─► survey.count.lines ───┐
                        ├─► survey.count.names ───┼─► survey.report.text
                        └─► survey.find.largest ──┘   (`largest` is tagged `slow`)

The three in the middle run side by side; the report takes their outputs as its arguments.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from perdure import Plan

plan = Plan("plan_fan_out", mode="fan_out", limit=3, output="survey.report.text", description="Survey Python files.")


@plan.state("survey.list.files", kind="read", timeout="30s")
def list_files(folder: str) -> list[str]:
    """The Python files of a folder; its parameter is the plan's input."""
    return sorted(str(path) for path in Path(folder).rglob("*.py"))


@plan.state("survey.count.lines", kind="read", timeout="30s", inputs={"files": "survey.list.files"})
def count_lines(files: list[str]) -> int:
    """How many lines they have in all."""
    return sum(len(Path(file).read_bytes().splitlines()) for file in files)


@plan.state("survey.count.names", kind="pure", inputs={"files": "survey.list.files"})
def count_names(files: list[str]) -> dict[str, int]:
    """The most common file names."""
    return dict(Counter(Path(file).name for file in files).most_common(3))


@plan.state(
    "survey.find.largest", kind="read", timeout="30s", inputs={"files": "survey.list.files"}, tags=["slow"], retries=2
)
def find_largest(files: list[str]) -> str | None:
    """The largest file."""
    return max(files, key=lambda file: Path(file).stat().st_size, default=None)


@plan.state(
    "survey.report.text",
    kind="pure",
    inputs={"lines": "survey.count.lines", "names": "survey.count.names", "largest": "survey.find.largest"},
)
def report(lines: int, names: dict[str, int], largest: str | None) -> str:
    """The findings; the output of a skipped state is `None`."""
    found = [f"{lines} lines", *(f"{name} ×{count}" for name, count in names.items())]
    return ", ".join([*found, f"largest: {largest or 'not looked for'}"])
