"""The table of all errors in `docs/errors.md`, made from the classes.

`python -m tests.docs.error_table` writes it anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

from perdure.core import pipeline_errors
from perdure.core.errors import (
    PerdureError,
    base,
    conflict,
    definition,
    input,
    service,
    state,
    step,
    store,
    testing,
    webhook,
)
from perdure.model import errors as model_errors
from perdure.pipeline.commands import errors as command_errors
from perdure.pipeline.drawing import errors as drawing_errors
from tests.docs.pages import ROOT

MODULES: Final = (
    base,
    input,
    definition,
    conflict,
    state,
    step,
    store,
    service,
    testing,
    webhook,
    pipeline_errors,
    model_errors,
    command_errors,
    drawing_errors,
)
PAGE: Final = ROOT / "docs" / "errors.md"
BEGIN: Final = "<!-- made by tests/docs/error_table.py: begin -->\n"
END: Final = "<!-- end -->\n"


def error_classes(base: type[PerdureError] = PerdureError) -> Iterator[type[PerdureError]]:
    """All classes of the tree that have a code of their own, in the order of the modules."""
    for module in MODULES:
        for value in vars(module).values():
            is_here = inspect.isclass(value) and value.__module__ == module.__name__
            if is_here and issubclass(value, base) and "code" in vars(value):
                yield value


def rendered() -> str:
    """The table, in Markdown."""
    lines = ["| code | class | category | again? | meaning | what to do |", "|---|---|---|---|---|---|"]
    for cls in error_classes():
        meaning = " ".join((cls.__doc__ or "").partition("\n\n")[0].split())
        cells = [
            f"`{cls.code}`",
            f"`{cls.__name__}`",
            cls.category,
            "yes" if cls.retryable else "",
            meaning,
            cls.default_hint,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def written() -> str:
    """The table as it stands in the page."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{rendered()}\n{END}{rest.partition(END)[2]}")
