"""Looking at runs: lists, one, its state, its events, its journal, its artifacts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256 as sha256_of
from typing import TYPE_CHECKING, Any, Final

import orjson

from perdure.client.face import Face, run_path, texts
from perdure.client.views.base import View
from perdure.client.views.runs import (
    ArtifactInfo,
    FeedEvent,
    FeedPage,
    Inbox,
    JournalPage,
    Piece,
    Question,
    RunEvent,
    RunPage,
    RunRow,
    RunView,
    StateView,
    Verified,
)
from perdure.core.errors import CorruptRecordError, InputError, ReplyInvalidError
from perdure.core.events import Event, Head
from perdure.core.values import codec_for

if TYPE_CHECKING:
    from perdure.client.following import Frame

PAGE: Final = 500


class Looking(Face):
    """The face that looks at runs."""

    # --- lists --------------------------------------------------------------------------------------------------------

    async def runs_page(
        self,
        *,
        status: Iterable[str] | None = None,
        workflow: str | None = None,
        tags: Iterable[str] | None = None,
        parent: str | None = None,
        id_prefix: str | None = None,
        created_after_ms: int | None = None,
        created_before_ms: int | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> RunPage:
        """Some runs, newest first.

        Args:
            status: any of these.
            workflow: its name.
            tags: all of these.
            parent: the run that spawned them.
            id_prefix: what their ids begin with.
            created_after_ms, created_before_ms: milliseconds since 1970 (UTC), half-open.
            cursor: `next_cursor` of the page before.
            limit: at most so many.

        Raises:
            InputError: the service refuses a condition.
        """
        tree = await self._get(
            "/runs",
            status=texts(status),
            workflow=workflow,
            tag=texts(tags),
            parent=parent,
            id_prefix=id_prefix,
            created_after_ms=created_after_ms,
            created_before_ms=created_before_ms,
            cursor=cursor,
            limit=limit,
        )
        return RunPage.read(tree)

    async def runs(
        self,
        *,
        status: Iterable[str] | None = None,
        workflow: str | None = None,
        tags: Iterable[str] | None = None,
        parent: str | None = None,
        id_prefix: str | None = None,
        created_after_ms: int | None = None,
        created_before_ms: int | None = None,
    ) -> AsyncGenerator[RunRow, None]:
        """All runs, newest first, page by page; see `runs_page`."""
        statuses, tagged = texts(status), texts(tags)
        cursor: str | None = None
        while True:
            page = await self.runs_page(
                status=statuses,
                workflow=workflow,
                tags=tagged,
                parent=parent,
                id_prefix=id_prefix,
                created_after_ms=created_after_ms,
                created_before_ms=created_before_ms,
                cursor=cursor,
                limit=PAGE,
            )
            for row in page.runs:
                yield row
            cursor = page.next_cursor
            if cursor is None:
                return

    async def inbox(self, *, cursor: str | None = None, limit: int | None = None) -> Inbox:
        """The open questions of all runs, oldest first, and the runs that cannot be read."""
        return Inbox.read(await self._get("/questions", cursor=cursor, limit=limit))

    async def questions(self, run_id: str | None = None) -> list[Question]:
        """Open questions, oldest first; of one run or of all.

        Raises:
            RunNotFoundError: there is no such run.
        """
        if run_id is not None:
            return list(Inbox.read(await self._get(run_path(run_id, "questions"))).questions)
        found: list[Question] = []
        page = await self.inbox()
        found += page.questions
        while page.next_cursor is not None:
            page = await self.inbox(cursor=page.next_cursor)
            found += page.questions
        return found

    # --- one run ------------------------------------------------------------------------------------------------------

    async def show(self, run_id: str) -> RunView:
        """A run: how it stands, and why it waits.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return RunView.read(await self._get(run_path(run_id)))

    async def state(self, run_id: str, *, at: int | None = None) -> StateView:
        """A run's key-value state, decoded.

        Args:
            run_id: the run.
            at: as of this seq; as of now if omitted.

        Raises:
            RunNotFoundError, InputError: there is no such run, or its journal does not reach that far.
        """
        tree = await self._get(run_path(run_id, "state"), at=at)
        told = StateView.read(tree)
        decoded = {name: decoded_value(value) for name, value in told.state.items()}
        return StateView(told.run_id, told.seq, told.status, decoded, raw=told.raw)

    async def verify(self, run_id: str) -> Verified:
        """Let the service check a run's hash chain and artifacts.

        Raises:
            RunNotFoundError: there is no such run.
            CorruptRecordError: names the first bad record.
        """
        return Verified.read(await self._get(run_path(run_id, "verify")))

    # --- events -------------------------------------------------------------------------------------------------------

    async def events(self, run_id: str, *, after: int = 0, follow: bool = True) -> AsyncGenerator[RunEvent, None]:
        """A run's events: those that stand in the journal, then live ones as they are committed; no gap, no repeat,
        also over lost connections and restarts of the service.

        Args:
            run_id: the run.
            after: begin behind this seq.
            follow: go on until the run has ended; otherwise stop at the present end of the journal.

        Raises:
            RunNotFoundError: there is no such run.
            ServerUnreachableError: the service cannot be reached within the client's patience.
        """
        if not follow:
            page = await self._events_page(run_id, after)
            while page:
                for event in page:
                    yield event
                page = await self._events_page(run_id, page[-1].seq)
            return

        async with aclosing(self._stream(run_id, after, transient=False)) as frames:
            async for frame in frames:
                if frame.id is not None:
                    yield RunEvent.read(frame.data)

    async def live(self, run_id: str, *, after: int = 0) -> AsyncGenerator[RunEvent | Piece, None]:
        """As `events`, and between the events what steps tell while they run: pieces of a model's answer, for example.

        What is told while the connection is lost is not sent again, and nothing is lost with it: the fact that the step
        leaves behind is one of the events.
        """
        async with aclosing(self._stream(run_id, after, transient=True)) as frames:
            async for frame in frames:
                if frame.id is not None:
                    yield RunEvent.read(frame.data)
                elif frame.name == "token":
                    yield Piece.read(frame.data)

    def _stream(self, run_id: str, after: int, *, transient: bool) -> AsyncGenerator[Frame, None]:
        from perdure.client.following import follow as followed

        async def has_ended(place: int) -> bool:
            ended = (await self.show(run_id)).ended  # before the events: none of an ended run is missed
            return ended and not await self._events_page(run_id, place, limit=1)

        path, query = run_path(run_id, "events"), {"transient": True} if transient else {}
        return followed(self._transport, path, after, query=query, without_gaps=True, has_ended=has_ended)

    async def feed(
        self, *, after: int = 0, workflows: Iterable[str] | None = None, kinds: Iterable[str] | None = None
    ) -> AsyncGenerator[FeedEvent, None]:
        """Events of all runs in the order of their commits: those that are there, then live ones, without an end; no
        gap and no repeat, also over lost connections and restarts of the service.

        Args:
            after: the position of the last one seen; 0 for all.
            workflows: only of runs of these.
            kinds: only of these.

        Raises:
            ServerUnreachableError: the service cannot be reached within the client's patience.
        """
        from perdure.client.following import follow as followed

        query = {"workflow": texts(workflows), "kind": texts(kinds)}
        async with aclosing(followed(self._transport, "/events", after, query=query)) as frames:
            async for frame in frames:
                if frame.id is not None:
                    yield FeedEvent.read({name: value for name, value in frame.data.items() if value is not None})

    async def feed_page(
        self,
        *,
        after: int = 0,
        workflows: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> FeedPage:
        """Some events of all runs in the order of their commits, as they stand; see `feed`.

        Args:
            after: the position of the last one seen; `next` of the page before.
            workflows: only of runs of these.
            kinds: only of these.
            limit: at most so many.
        """
        tree = await self._get(
            "/events", after=after, workflow=texts(workflows), kind=texts(kinds), limit=limit, stream=False
        )
        events = [{name: value for name, value in one.items() if value is not None} for one in tree.get("events", ())]
        return FeedPage.read(tree | {"events": events})

    async def journal_page(self, run_id: str, *, after: int = 0, limit: int | None = None) -> JournalPage:
        """Some records of a run's journal, exactly as they were hashed.

        Args:
            run_id: the run.
            after: begin behind this seq.
            limit: at most so many.

        Raises:
            RunNotFoundError: there is no such run.
        """
        tree = await self._get(run_path(run_id, "journal"), after=after, limit=limit)
        page = _Journal.read(tree)
        try:
            head = Head(int(page.head["seq"]), bytes.fromhex(page.head["hash"]))
            return JournalPage(tuple(_event(run_id, one) for one in page.records), page.more, head)
        except (KeyError, TypeError, ValueError) as error:
            raise ReplyInvalidError("the server's answer is no journal", run_id=run_id) from error

    async def journal(self, run_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """The records of a run's journal as they stand, page by page; see `journal_page`."""
        while True:
            page = await self.journal_page(run_id, after=after, limit=PAGE)
            for record in page.records:
                yield record
            if not page.more or not page.records:
                return
            after = page.records[-1].seq

    async def _events_page(self, run_id: str, after: int, limit: int | None = None) -> tuple[RunEvent, ...]:
        tree = await self._get(run_path(run_id, "events"), after=after, stream=False, limit=limit)
        return _Events.read(tree).events

    # --- artifacts ----------------------------------------------------------------------------------------------------

    async def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """The artifacts that a run's journal names.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return list(_Artifacts.read(await self._get(run_path(run_id, "artifacts"))).artifacts)

    async def artifact(self, run_id: str, sha256: str, *, range: tuple[int, int] | None = None) -> bytes:
        """The bytes of an artifact of a run; all of them are checked against their name.

        Args:
            run_id: the run.
            sha256: of all bytes, in hex.
            range: from the first of these places to before the second.

        Raises:
            RunNotFoundError, ArtifactNotFoundError: there is no such run, or it names no such artifact.
            InputError: there are no such bytes.
            CorruptRecordError: the bytes are not those.
        """
        path = run_path(run_id, "artifacts", sha256)
        if range is None:
            return _checked((await self._fetch(path)).content, run_id, sha256)
        start, end = range
        if not 0 <= start < end:
            raise InputError("a range has a beginning and a later end, both from 0", field="range")
        try:
            reply = await self._fetch(path, headers={"range": f"bytes={start}-{end - 1}"})
        except InputError as error:
            if error.ids.get("status") != 416:
                raise
            raise InputError(
                f"the artifact has no bytes from {start} to {end}", field="range", run_id=run_id
            ) from error
        if reply.status == 200:
            return _checked(reply.content, run_id, sha256)[start:end]
        if not reply.headers.get("content-range", "").startswith(f"bytes {start}-{start + len(reply.content) - 1}/"):
            raise ReplyInvalidError("the server's answer is another range of bytes", run_id=run_id)
        return reply.content


@dataclass(frozen=True)
class _Events(View):
    events: tuple[RunEvent, ...]


@dataclass(frozen=True)
class _Journal(View):
    records: tuple[dict[str, Any], ...]
    head: dict[str, Any]
    more: bool = False


@dataclass(frozen=True)
class _Artifacts(View):
    artifacts: tuple[ArtifactInfo, ...]


def decoded_value(tree: Any) -> Any:
    """A recorded value as a program has it: dates, bytes and so on are what they were."""
    return codec_for(Any).load_json(tree)


def _checked(data: bytes, run_id: str, sha256: str) -> bytes:
    if sha256_of(data).hexdigest() != sha256.lower():
        raise CorruptRecordError(f"what came as artifact {sha256} has another hash", run_id=run_id)
    return data


def _event(run_id: str, record: Mapping[str, Any]) -> Event:
    header = record["header"].encode()
    told: dict[str, Any] = orjson.loads(header)
    payload = record["payload"]
    if told["run"] != run_id or told["seq"] != record["seq"]:
        raise ValueError("it is a record of another place")
    return Event(
        run_id,
        told["seq"],
        told["kind"],
        told["time_ms"],
        told["node"],
        told["scope"],
        told["key"],
        told["actor"],
        told["epoch"],
        header,
        bytes.fromhex(record["salt"]),
        None if payload is None else payload.encode(),
    )
