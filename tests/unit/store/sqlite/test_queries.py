"""The named statements."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import perdure.store.sqlite as package
from perdure.store.sqlite.queries import query
from perdure.store.sqlite.schema import known_migrations, migrate

FOLDER = Path(package.__file__).parent
NAMES = sorted(path.stem for path in (FOLDER / "sql").glob("*.sql"))

# What runs for every commit, every poll or every answer must look rows up, never walk through a table.
WALKS_ON_PURPOSE = {"run_count", "worker_list", "wait_list", "run_list"}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(tmp_path / "runs.db"))
    migrate(connection, "runs.db", known_migrations())
    yield connection
    connection.close()


def filled(name: str) -> str:
    return query(name).replace("{conditions}", "TRUE")


def bindings(sql: str) -> list[None]:
    numbered = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    return [None] * (max(numbered) if numbered else sql.count("?"))


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_fits_the_schema(connection: apsw.Connection, name: str) -> None:
    connection.execute("EXPLAIN " + filled(name), bindings(query(name))).fetchall()


@pytest.mark.parametrize("name", sorted(set(NAMES) - WALKS_ON_PURPOSE))
def test_no_statement_walks_through_a_table(connection: apsw.Connection, name: str) -> None:
    sql = filled(name)
    plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + sql, bindings(sql))]
    walks = [line for line in plan if re.match(r"SCAN (?!owners|changed|CONSTANT|json_each)", line)]
    assert walks == []


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_is_used(name: str) -> None:
    texts = [path.read_text() for path in FOLDER.glob("*.py")]
    assert any(f'"{name}"' in text for text in texts)


def test_a_statement_is_always_the_same_object() -> None:
    assert query("append") is query("append")
    assert "--" not in query("append_guarded")


def test_lists_by_filter_use_an_index(connection: apsw.Connection) -> None:
    conditions = {
        "TRUE": "runs_by_age",
        "status IN (?)": "runs_by_status",
        "workflow = ?": "runs_by_workflow",
        "parent_id = ?": "runs_by_parent",
    }
    for condition, index in conditions.items():
        sql = query("run_list").format(conditions=condition)
        plan = " ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + sql, [None] * sql.count("?")))
        assert index in plan
        assert "TEMP B-TREE" not in plan
