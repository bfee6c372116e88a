"""Every clause of what pipelines promise is held by a test, and the page says by which."""

from __future__ import annotations

from tests.docs.pipeline_clauses import CLAUSES, PAGE, holders, rendered

KNOWN = [clause for clauses in CLAUSES.values() for clause in clauses]


def test_every_clause_is_held_by_a_test() -> None:
    held = holders()
    assert [clause for clause in KNOWN if clause not in held] == []


def test_every_clause_that_a_test_names_is_listed_once() -> None:
    assert sorted(set(KNOWN)) == sorted(KNOWN)
    assert set(holders()) <= set(KNOWN)


def test_the_page_is_that_of_the_marks() -> None:
    assert PAGE.read_text() == rendered(), "write it anew: python -m tests.docs.pipeline_clauses"
