"""Rules of appending: what is committed, what is refused, and that one append never harms another."""

from __future__ import annotations

from perdure.core.errors import (
    ArtifactNotFoundError,
    FencedError,
    HeadMovedError,
    PerdureError,
    RunConflictError,
    RunNotFoundError,
)
from perdure.core.events import Head, IndexChange, WaitRow
from perdure.journal.chain import check, genesis, hash_of, seal
from perdure.store.port import Append, Appended, ArtifactRow, NewRun, Store
from perdure.testing.store_contract.base import (
    WORKFLOW,
    Rules,
    claim_one,
    command,
    commit,
    creation,
    draft,
    execution,
    in_place_already,
    raises,
    refused,
    rule,
    start,
    written,
)

HELLO = ArtifactRow("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", b"hello", "text/plain")


class AppendingRules(Rules):
    """Appends."""

    @rule
    async def test_a_new_run_starts_at_its_genesis(self, store: Store) -> None:
        """Seq 1 names the genesis hash; the whole journal checks."""
        head = await start(store, "a", draft(), draft())
        events = await store.read("a")
        assert [event.seq for event in events] == [1, 2, 3]
        assert check("a", events) == head == await store.head("a")

    @rule
    async def test_a_new_run_has_an_index_row(self, store: Store) -> None:
        """As `NewRun` says; nobody owns it and its epoch is 0."""
        new = NewRun(WORKFLOW, "7", 1234, due_ms=99, parent_id="p", tags=("x", "a b"), caller_owned=True)
        await start(store, "a", new=new)
        row = await store.get_run("a")
        assert row is not None
        assert (row.run_id, row.workflow, row.version, row.created_ms, row.due_ms) == ("a", WORKFLOW, "7", 1234, 99)
        assert (row.status, row.reason, row.updated_ms, row.base_seq) == ("pending", "", 1234, 1)
        assert (row.owner, row.epoch, row.parent_id, row.caller_owned) == (None, 0, "p", True)
        assert row.tags == ("x", "a b")

    @rule
    async def test_a_run_can_be_created_with_its_owner(self, store: Store) -> None:
        """Creation and claim in one transaction; the owner writes under epoch 1."""
        await store.lease("w1", [WORKFLOW])
        head = await start(store, "a", new=NewRun(WORKFLOW, "1", 1, owner="w1"))
        row = await store.get_run("a")
        assert row is not None
        assert (row.owner, row.epoch) == ("w1", 1)
        await written(store, Append("a", [draft()], head, 1, "w1"))

    @rule
    async def test_a_fork_continues_the_chain_of_its_parent(self, store: Store) -> None:
        """A new run may start from another hash than its genesis."""
        parent = await start(store, "a")
        fork = Head(0, parent.hash)
        append = Append("b", [draft("run.started", b"{}")], fork, create=NewRun(WORKFLOW, "1", 1))
        head = await written(store, append)
        assert check("b", await store.read("b"), fork) == head

    @rule
    async def test_an_id_is_taken_once(self, store: Store) -> None:
        """A second creation is a conflict and leaves the first as it was."""
        await start(store, "a", new=NewRun(WORKFLOW, "1", 1, tags=("first",)))
        error = await refused(store, creation("a", new=NewRun("other", "2", 2, tags=("second",))), RunConflictError)
        assert error.ids["run_id"] == "a"

    @rule
    async def test_appends_follow_one_another(self, store: Store) -> None:
        """Each names the head that the one before returned."""
        head = await start(store, "a")
        for count in (1, 2, 3):
            head = await written(store, command("a", head, *(draft() for _ in range(count))))
        assert check("a", await store.read("a")) == head
        assert head.seq == 7

    @rule
    async def test_events_come_back_byte_for_byte(self, store: Store) -> None:
        """Payload, salt and the header's fields."""
        head = await start(store, "a")
        payload = b'{"text":"gr\xc3\xbc\xc3\x9fe","zero":0}'
        sent = draft("note.taken", payload, time_ms=77, key="search#2")
        await written(store, command("a", head, sent))
        (event,) = await store.read("a", after=1)
        assert (event.run_id, event.seq, event.kind, event.time_ms) == ("a", 2, "note.taken", 77)
        assert (event.node, event.scope, event.key, event.actor) == (sent.node, sent.scope, sent.key, sent.actor)
        assert (event.payload, event.salt) == (payload, sent.salt)

    @rule
    async def test_a_large_payload_comes_back_whole(self, store: Store) -> None:
        """Also one that no page of a database holds."""
        head = await start(store, "a")
        payload = b'"' + bytes(97 + number % 26 for number in range(300_000)) + b'"'
        await written(store, command("a", head, draft(payload=payload)))
        (event,) = await store.read("a", after=1)
        assert event.payload == payload

    @rule
    async def test_headers_name_the_epoch(self, store: Store) -> None:
        """The lease's for execution, 0 for commands."""
        head = await start(store, "a")
        lease = await store.lease("w1", [WORKFLOW])
        await claim_one(store, lease, "a")
        claimed = await claim_one(store, lease, "a")
        head = await written(store, execution(claimed, head))
        await written(store, command("a", head))
        assert [event.epoch for event in await store.read("a")] == [0, 2, 0]

    # --- refusals -----------------------------------------------------------------------------------------------------

    @rule
    async def test_a_stale_head_is_refused(self, store: Store) -> None:
        """The journal has grown since; the error says how far it is."""
        stale = await start(store, "a")
        await written(store, command("a", stale, draft(), draft()))
        error = await refused(store, command("a", stale), HeadMovedError)
        assert (error.ids["run_id"], error.ids["expected_seq"], error.ids["seq"]) == ("a", 1, 3)

    @rule
    async def test_a_head_that_is_not_there_yet_is_refused(self, store: Store) -> None:
        """A gap never comes to be."""
        head = await start(store, "a")
        await refused(store, command("a", Head(5, head.hash)), HeadMovedError)

    @rule
    async def test_a_head_with_another_hash_is_refused(self, store: Store) -> None:
        """The right seq alone is not enough."""
        head = await start(store, "a")
        await refused(store, command("a", Head(head.seq, genesis("b"))), HeadMovedError)

    @rule
    async def test_the_beginning_of_a_run_that_exists_is_refused(self, store: Store) -> None:
        """Seq 1 is taken, also for an append without `create`."""
        await start(store, "a")
        await refused(store, command("a", Head(0, genesis("a"))), HeadMovedError)

    @rule
    async def test_an_unknown_run_is_refused(self, store: Store) -> None:
        """An append without `create` makes no run."""
        await refused(store, command("a", Head(0, genesis("a"))), RunNotFoundError)
        await refused(store, Append("a", [draft()], Head(3, b"\0" * 32), 1, "w1"), RunNotFoundError)
        assert await store.get_run("a") is None

    @rule
    async def test_a_command_needs_no_lease(self, store: Store) -> None:
        """It is appended at the head of a run that a worker owns, and moves the worker's head."""
        head = await start(store, "a")
        claimed = await claim_one(store, await store.lease("w1", [WORKFLOW]), "a")
        moved = await written(store, command("a", head))
        await refused(store, execution(claimed, head), HeadMovedError)
        await written(store, execution(claimed, moved))

    @rule
    async def test_only_the_owner_under_its_epoch_executes(self, store: Store) -> None:
        """Another worker, another epoch, and a run that nobody owns are all fenced."""
        head = await start(store, "a")
        await refused(store, Append("a", [draft()], head, 0, "w1"), FencedError)
        await claim_one(store, await store.lease("w1", [WORKFLOW]), "a")
        await refused(store, Append("a", [draft()], head, 2, "w1"), FencedError)
        error = await refused(store, Append("a", [draft()], head, 1, "w2"), FencedError)
        assert (error.ids["run_id"], error.ids["owner"], error.ids["current_epoch"]) == ("a", "w1", 1)

    @rule
    async def test_of_two_leases_on_one_run_the_older_is_fenced(self, store: Store) -> None:
        """The head is right and still the zombie writes nothing."""
        head = await start(store, "a")
        zombie = await claim_one(store, await store.lease("w1", [WORKFLOW]), "a")
        head = await written(store, execution(zombie, head))
        heir = await claim_one(store, await store.lease("w2", [WORKFLOW]), "a", steal=True)
        await refused(store, execution(zombie, head), FencedError)
        head = await written(store, execution(heir, head))
        await refused(store, execution(zombie, head), FencedError)

    @rule
    async def test_fenced_comes_before_head_moved(self, store: Store) -> None:
        """Who has lost the run must not read the new head and try again."""
        head = await start(store, "a")
        zombie = await claim_one(store, await store.lease("w1", [WORKFLOW]), "a")
        heir = await claim_one(store, await store.lease("w2", [WORKFLOW]), "a", steal=True)
        await written(store, execution(heir, head))
        await refused(store, execution(zombie, head), FencedError)

    @rule
    async def test_a_resend_is_recognised_by_its_bytes(self, store: Store) -> None:
        """After an unconfirmed commit: `HeadMovedError`, and what stands there is what was sent."""
        head = await start(store, "a")
        append = command("a", head, draft(), draft())
        await written(store, append)
        await refused(store, append, HeadMovedError)
        there = await store.read("a", after=head.seq, limit=len(append.drafts))
        assert in_place_already(append.drafts, append, there)
        other = command("a", head, draft(), draft())
        await refused(store, other, HeadMovedError)
        assert not in_place_already(other.drafts, other, there)

    # --- batches ------------------------------------------------------------------------------------------------------

    @rule
    async def test_refusal_of_one_never_fails_its_neighbours(self, store: Store) -> None:
        """Each append of a batch has an outcome of its own, in the order of the batch."""
        heads = {run_id: await start(store, run_id) for run_id in ("a", "b", "c", "d")}
        outcomes = await commit(
            store,
            command("a", heads["a"]),
            command("b", Head(0, genesis("b"))),
            command("c", heads["c"], draft(), draft()),
            Append("d", [draft()], heads["d"], 1, "nobody"),
            creation("a"),
            creation("e", draft()),
            command("unknown", Head(0, genesis("unknown"))),
        )
        expected = (Appended, HeadMovedError, Appended, FencedError, RunConflictError, Appended, RunNotFoundError)
        assert [type(outcome) for outcome in outcomes] == list(expected)
        lengths = {run_id: len(await store.read(run_id)) for run_id in ("a", "b", "c", "d", "e", "unknown")}
        assert lengths == {"a": 2, "b": 1, "c": 3, "d": 1, "e": 2, "unknown": 0}

    @rule
    async def test_appends_of_one_run_may_follow_one_another_in_a_batch(self, store: Store) -> None:
        """Each behind the one before; the journal's order is the order of the batch."""
        head = await start(store, "a")
        lease = await store.lease("w1", [WORKFLOW])
        claimed = await claim_one(store, lease, "a")
        first = execution(claimed, head, draft(key="1"), draft(key="2"))
        after_first = _head_after(first)
        second = execution(claimed, after_first, draft(key="3"), draft(key="4"))
        third = command("a", _head_after(second), draft(key="5"))
        outcomes = await commit(store, first, second, third)
        assert [type(outcome) for outcome in outcomes] == [Appended] * 3
        assert [event.key for event in await store.read("a", after=1)] == ["1", "2", "3", "4", "5"]
        entries = await store.read_feed()
        assert [entry.event.key for entry in entries][-5:] == ["1", "2", "3", "4", "5"]

    @rule
    async def test_a_batch_may_create_a_run_and_extend_it(self, store: Store) -> None:
        """The second append names the head that the first one makes."""
        first = creation("a")
        outcomes = await commit(store, first, command("a", _head_after(first)), creation("a"))
        assert [type(outcome) for outcome in outcomes] == [Appended, Appended, RunConflictError]
        assert len(await store.read("a")) == 2

    @rule
    async def test_of_two_appends_at_one_head_the_first_wins(self, store: Store) -> None:
        """Also within one batch: the lower seq wins."""
        head = await start(store, "a")
        outcomes = await commit(store, command("a", head, draft(key="1")), command("a", head, draft(key="2")))
        assert [type(outcome) for outcome in outcomes] == [Appended, HeadMovedError]
        assert [event.key for event in await store.read("a", after=1)] == ["1"]

    @rule
    async def test_a_release_fences_what_follows_in_the_batch(self, store: Store) -> None:
        """Appends of a batch see what the ones before them did."""
        head = await start(store, "a")
        claimed = await claim_one(store, await store.lease("w1", [WORKFLOW]), "a")
        last = execution(claimed, head, change=IndexChange(release=True))
        outcomes = await commit(store, last, execution(claimed, _head_after(last)))
        assert [type(outcome) for outcome in outcomes] == [Appended, FencedError]

    @rule
    async def test_what_cannot_be_written_fails_alone(self, store: Store) -> None:
        """A draft that is no UTF-8, and an append without events, are errors of their own."""
        head = await start(store, "a")
        batch = (
            command("a", head),
            creation("b", draft(key="\ud800")),
            Append("c", [], Head(0, genesis("c")), create=NewRun(WORKFLOW, "1", 1)),
            creation("d"),
        )
        outcomes = await commit(store, *batch)
        assert isinstance(outcomes[0], Appended)
        assert isinstance(outcomes[1], PerdureError)
        assert isinstance(outcomes[2], PerdureError)
        assert isinstance(outcomes[3], Appended)
        assert await store.get_run("b") is None
        assert await store.get_run("c") is None
        assert await store.read("b") == []

    @rule
    async def test_a_refused_append_leaves_nothing(self, store: Store) -> None:
        """No event, index row, wait, tag, wake or artifact of it."""
        await start(store, "parent", draft(change=IndexChange(status="waiting", due_ms=5000)))
        stale = await start(store, "a")
        await written(store, command("a", stale))
        wait = WaitRow("w", "question", "", None, None)
        change = IndexChange(status="waiting", reason="x", due_ms=7, opened=(wait,), wake="parent")
        append = command("a", stale, draft(change=change))
        append.artifacts.append(HELLO)
        await refused(store, append, HeadMovedError)
        await raises(ArtifactNotFoundError, store.get_artifact(HELLO.sha256))
        parent = await store.get_run("parent")
        assert parent is not None
        assert parent.due_ms == 5000

    @rule
    async def test_order_is_kept_between_here_and_later(self, store: Store) -> None:
        """What was handed in first is committed first, whichever thread commits it."""
        head = await start(store, "a")
        answers = []
        for number in range(20):
            append = command("a", head, draft(key=f"k{number}"))
            answers.append(store.append([append], in_place=number % 3 == 0))
            head = _head_after(append)
        for answer in answers:
            (outcome,) = answer if isinstance(answer, list) else await answer
            assert isinstance(outcome, Appended)
        assert [event.key for event in await store.read("a", after=1)] == [f"k{number}" for number in range(20)]

    @rule
    async def test_an_acknowledged_append_can_be_read(self, store: Store) -> None:
        """At once, from wherever it was committed."""
        head = await start(store, "a")
        for in_place in (False, True, False):
            (outcome,) = await commit(store, command("a", head), in_place=in_place)
            assert isinstance(outcome, Appended)
            head = outcome.head
            assert [hash_of(event) for event in await store.read("a", after=head.seq - 1)] == [head.hash]

    @rule
    async def test_an_empty_batch_is_nothing(self, store: Store) -> None:
        """It has no outcomes and writes nothing."""
        assert await commit(store) == []
        assert await store.feed_position() == 0


def _head_after(append: Append) -> Head:
    """The head that an append will make."""
    seq, previous = append.expected
    for made in append.drafts:
        seq += 1
        _, previous = seal(append.run_id, made, seq, previous, append.epoch or 0)
    return Head(seq, previous)
