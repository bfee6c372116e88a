"""Reading, on a connection of its own and on the caller's thread: reads are short and never wait for writers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import apsw
import orjson

from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError, InputError, StoreCorruptError, StoreError
from perdure.core.events import NEVER, Event, Head, WaitRow
from perdure.journal.chain import read_record
from perdure.store.port import ArtifactInfo, FeedEntry, OpenWait, RunFilter, RunRow
from perdure.store.sqlite.connection import BAD_VALUES, FAILURES, leak, read_error
from perdure.store.sqlite.queries import query

T = TypeVar("T")

_EVENTS: Final = query("event_list")


class Reader:
    """What is committed.

    Args:
        connect: opens the connection that is read on.

    Attributes:
        failures: how many reads failed.
        failure: the error of the newest one of them.
    """

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._connection: apsw.Connection | None = None
        self.failures = 0
        self.failure: StoreError | None = None

    def rows(self, name: str, bindings: Sequence[Any] = (), *, sql: str | None = None) -> list[tuple[Any, ...]]:
        """All rows of a named query.

        Raises:
            StoreReadError, StoreCorruptError: it failed; the next read opens the connection again.
        """
        try:
            connection = self._connection
            if connection is None:
                connection = self._connection = self._connect()
            found: list[tuple[Any, ...]] = connection.execute(sql or query(name), bindings).fetchall()
            return found
        except BAD_VALUES as error:
            raise InputError(f"the store cannot be asked for this: {error}") from error
        except FAILURES as error:
            self.close()
            self.failures += 1
            self.failure = read_error(error, "a read of the store")
            raise self.failure from error

    def guarded(self, decode: Callable[[], T]) -> T:
        """Decode what was read; what is not what this store writes was damaged."""
        try:
            return decode()
        except (orjson.JSONDecodeError, TypeError) as error:
            raise StoreCorruptError(f"a row of the store is not what was written: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*FAILURES):
                connection.close(True)

    def forked(self) -> None:
        """In a forked child: leave the parent's connection alone."""
        connection, self._connection = self._connection, None
        leak(connection)

    # --- journals -----------------------------------------------------------------------------------------------------

    def events(self, run_id: str, after: int, until: int | None, limit: int) -> list[Event]:
        """Events of one run."""
        found = self.rows("run_ownership", (run_id,))
        if not found:
            return []
        number = found[0][0]
        rows = self.rows("event_list", (number, after, NEVER if until is None else until, limit), sql=_EVENTS)
        try:
            return [read_record(header, salt, payload) for header, salt, payload in rows]
        except (CorruptRecordError, TypeError) as error:
            raise self._unreadable(number, error) from error

    def feed(self, after: int, limit: int) -> list[FeedEntry]:
        """Events of all runs in commit order."""
        entries = []
        for position, run, header, salt, payload in self.rows("feed_list", (after, limit)):
            try:
                entries.append(FeedEntry(position, read_record(header, salt, payload)))
            except (CorruptRecordError, TypeError) as error:
                raise self._unreadable(run, error) from error
        return entries

    def _unreadable(self, number: int, error: Exception) -> CorruptRecordError:
        """Names the first record of a run that cannot be read: its row's seq is all that is left to name it by."""
        run_id = next((row[0] for row in self.rows("run_id", (number,))), None)
        for seq, header in self.rows("event_headers", (number,)):
            try:
                read_record(header, b"", None)
            except (CorruptRecordError, TypeError):
                return CorruptRecordError(
                    f"record {seq} of run {run_id}: its header cannot be read", run_id=run_id, seq=seq
                )
        return CorruptRecordError(f"a record of run {run_id}: {error}", run_id=run_id)

    def position(self) -> int:
        """The newest position."""
        newest: int = self.rows("feed_position")[0][0]
        return newest

    def changed_runs(self, after: int) -> tuple[int, dict[str, int]]:
        """The newest position, and which runs grew after `after`, with their newest seq."""
        newest = self.position()
        if newest <= after:
            return newest, {}
        return newest, dict(self.rows("feed_runs", (after, newest)))

    def head(self, run_id: str) -> Head | None:
        """The head of a journal."""
        last = self.rows("event_last_of", (run_id,))
        if not last:
            if not self.rows("run_ownership", (run_id,)):
                return None
            raise CorruptRecordError(f"run {run_id} has no events", run_id=run_id)
        seq, header = last[0]
        return Head(seq, hashlib.sha256(header).digest())

    # --- index rows ---------------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> RunRow | None:
        """One run."""
        found = self.rows("run_read", (run_id,))
        return self.guarded(lambda: run_row(found[0])) if found else None

    def runs(self, where: RunFilter) -> list[RunRow]:
        """Runs, newest first."""
        conditions, bindings = _conditions(where)
        sql = query("run_list").format(conditions=" AND ".join(conditions) or "TRUE")
        rows = self.rows("run_list", (*bindings, where.limit), sql=sql)
        return self.guarded(lambda: [run_row(row) for row in rows])

    def counts(self) -> dict[str, int]:
        """How many runs, by status."""
        return {status: count for status, count in self.rows("run_count")}

    def waits(
        self, kind: str | None, name: str | None, key: str | None, run_id: str | None, limit: int
    ) -> list[OpenWait]:
        """Open waits, oldest first."""
        asked = {
            "waits.kind = ?": kind,
            "waits.name = ?": name,
            "(waits.key IS NULL OR waits.key = ?)": key,
            "waits.run = (SELECT number FROM runs WHERE run_id = ?)": run_id,
        }
        given = {condition: value for condition, value in asked.items() if value is not None}
        sql = query("wait_list").format(conditions=" AND ".join(given) or "TRUE")
        rows = self.rows("wait_list", (*given.values(), limit), sql=sql)
        return [OpenWait(row[0], row[1], WaitRow(*row[2:])) for row in rows]

    # --- artifacts ----------------------------------------------------------------------------------------------------

    def artifact(self, sha256: str) -> bytes:
        """The bytes of an artifact, checked against its name."""
        found = self.rows("artifact_read", (_name(sha256),))
        if not found:
            raise ArtifactNotFoundError(f"no artifact has the SHA-256 {sha256}", artifact=sha256)
        data: bytes = found[0][0]
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptRecordError(f"artifact {sha256} is not what was written", artifact=sha256)
        return data

    def artifact_infos(self, sha256s: Iterable[str]) -> list[ArtifactInfo]:
        """What is known of artifacts, without reading them."""
        found = []
        for sha256 in dict.fromkeys(sha256s):
            for size, media_type in self.rows("artifact_info", (_name(sha256),)):
                found.append(ArtifactInfo(sha256, size, media_type))
        return found

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file."""
        try:
            connection = self._connection = self._connection or self._connect()
        except FAILURES as error:
            return [read_error(error, "opening the store").message]
        return problems_of(connection)


def problems_of(connection: apsw.Connection) -> list[str]:
    """What SQLite finds wrong with a file, up to where it cannot read on."""
    problems = []
    try:
        for row in connection.execute("PRAGMA integrity_check"):
            problems += str(row[0]).splitlines()
    except FAILURES as error:
        problems.append(read_error(error, "the check of all pages").message)
    return [] if problems == ["ok"] else problems


def run_row(row: Sequence[Any]) -> RunRow:
    """A row of the queries that name the columns of a run in this order."""
    *plain, caller_owned, tags = row[:14]
    fields: tuple[Any, ...] = (*plain, bool(caller_owned), tuple(orjson.loads(tags)) if tags is not None else ())
    return RunRow(*fields)


def _name(sha256: str) -> bytes:
    try:
        return bytes.fromhex(sha256)
    except ValueError:
        return b""


def _conditions(where: RunFilter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    bindings: list[Any] = []

    def add(condition: str, *values: Any) -> None:
        conditions.append(condition)
        bindings.extend(values)

    if where.statuses:
        add(f"status IN ({', '.join('?' * len(where.statuses))})", *where.statuses)
    if where.workflow is not None:
        add("workflow = ?", where.workflow)
    if where.parent_id is not None:
        add("parent_id = ?", where.parent_id)
    for tag in where.tags:
        add("number IN (SELECT run FROM tags WHERE tag = ?)", tag)
    if where.created_after_ms is not None:
        add("created_ms >= ?", where.created_after_ms)
    if where.created_before_ms is not None:
        add("created_ms < ?", where.created_before_ms)
    if where.id_prefix:
        add("run_id >= ? AND run_id < ?", where.id_prefix, where.id_prefix + "\U0010ffff")
    if where.before is not None:
        add("(created_ms, run_id) < (?, ?)", *where.before)
    return conditions, bindings
