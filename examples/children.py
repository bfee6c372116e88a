"""Children: runs that start runs, on two levels. A parent wakes when a child ends; a failure arrives as a typed error.

    perdure run examples/children.py --input 'books={"Dune": 3, "Emma": 2, "Blank": 0}'

Each child is a run of its own, with its own journal: `perdure ps` lists them, `perdure show RUN` shows them under their
parent, and to cancel the parent is to cancel them all.
"""

from __future__ import annotations

from perdure import Run, StepFailed, step, workflow


@step(kind="pure")
def summary_of(title: str, number: int) -> str:
    """What a chapter says."""
    return f"{title}, chapter {number}: things happen"


@workflow
async def chapter(run: Run, title: str, number: int) -> str:
    """Summarise one chapter."""
    return await run.step(summary_of, title, number)


@workflow
async def book(run: Run, title: str, chapters: int) -> list[str]:
    """Summarise a book, one child run for each chapter."""
    if chapters == 0:
        raise ValueError(f"{title} has no chapters")
    children = [await run.spawn(chapter, title, number) for number in range(1, chapters + 1)]
    return [await child.result() for child in children]


@workflow
async def library(run: Run, books: dict[str, int] | None = None) -> dict[str, list[str] | str]:
    """Summarise several books at once.

    Args:
        books: the number of chapters by title.
    """
    books = books or {"Dune": 3, "Emma": 2, "Blank": 0}

    async def read(title: str) -> list[str] | str:
        child = await run.spawn(book, title, books[title])
        try:
            return await child.result()
        except StepFailed as failure:  # what a child's failure is to its parent: code, type and message are recorded
            return f"not read ({failure.error_type}: {failure.message})"

    return dict(zip(books, await run.map(read, books), strict=True))
