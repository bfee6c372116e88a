"""Rules of section 7: the exact bytes of a journal, what they show, and what they keep to themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import Run, Runtime, Secret, current_step, step, workflow
from perdure.core import kinds as kinds_module
from perdure.core.canonical import canonical
from perdure.core.errors import CorruptRecordError, InvalidIdError
from perdure.core.events import FORMAT, Draft, Event, Head
from perdure.core.kinds import KINDS, RESERVED_NOUNS, check_event_name
from perdure.journal.chain import check, genesis, hash_of, read_record, seal
from perdure.store.memory import MemoryStore
from perdure.store.port import Store
from perdure.store.sqlite import SQLiteStore

pytestmark = pytest.mark.time_limit(20)

FIELDS = [
    "actor",
    "digest",
    "epoch",
    "format",
    "key",
    "kind",
    "kind_version",
    "node",
    "prev",
    "run",
    "scope",
    "seq",
    "time_ms",
]


@step(kind="idempotent")
async def act(who: str, secret: Secret) -> dict[str, str]:
    return {"hello": who, "key": current_step().idempotency_key}


@workflow(version="3")
async def tells(run: Run, who: str) -> str:
    found = await run.step(act, who, Secret("env:HOME"))
    run.state["found"] = found
    run.emit("told.everything", {"who": who})
    run.put(who, name="who")
    run.state["large"] = who * 20_000
    await run.ask(f"Is it {who}?", timeout="1ms", default=who)
    await run.gather(run.step(act, who, Secret("env:HOME")))
    return who


async def journal_of(who: str, store: Store | None = None, **options: Any) -> list[Event]:
    async with Runtime(store or MemoryStore(), **options) as runtime:
        handle = await runtime.start(tells, who, id="r1", tags=["t"], actor="person:ada")
        await handle.result()
        return [event async for event in handle.events(follow=False)]


def drafts() -> Iterator[Draft]:
    for number in range(5):
        yield Draft(
            "state.written",
            b'{"fingerprint":"f","name":"n","value":%d}' % number,
            bytes([number]) * 16,
            1_000 + number,
            node="main#1",
            scope="0/main#1",
            key=f"k{number}",
            actor="worker:w1",
        )


def sealed(run_id: str = "r1", count: int = 5) -> list[Event]:
    events, previous = [], genesis(run_id)
    for seq, draft in enumerate(list(drafts())[:count], 1):
        header, previous = seal(run_id, draft, seq, previous, 1)
        events.append(read_record(header, draft.salt, draft.payload))
    return events


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "sqlite"])
async def test_7_the_header_is_canonical_json_stored_as_the_exact_bytes_that_are_hashed(
    disk: bool, tmp_path: Path
) -> None:
    store = SQLiteStore(tmp_path / "runs.db", durability="process") if disk else MemoryStore()
    events = await journal_of("Ada", store)
    previous = sha256(f"{FORMAT}r1".encode()).digest()
    for seq, event in enumerate(events, 1):
        header = orjson.loads(event.header)
        assert canonical(header) == event.header
        assert list(header) == FIELDS
        assert header["prev"] == previous.hex()
        assert (header["format"], header["run"], header["seq"]) == (FORMAT, "r1", seq)
        assert header["digest"] == sha256(event.salt + (event.payload or b"")).hexdigest()
        assert header["kind_version"] == (KINDS[event.kind].version if event.kind in KINDS else 1)
        for name in ("kind", "time_ms", "node", "scope", "key", "actor", "epoch"):
            assert header[name] == getattr(event, name)
        previous = sha256(event.header).digest()
        assert hash_of(event) == previous
    assert check("r1", events) == Head(len(events), previous)


TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]))


@given(
    kind=st.text(st.characters(exclude_categories=["Cs"])),
    texts=st.tuples(TEXT, TEXT, TEXT, TEXT),
    time_ms=st.integers(0, 2**53 - 1),
    seq=st.integers(1, 2**53 - 1),
    epoch=st.integers(0, 2**53 - 1),
    payload=st.binary(),
    salt=st.binary(min_size=16, max_size=16),
)
def test_7_any_header_is_canonical_and_read_back(
    kind: str, texts: tuple[str | None, ...], time_ms: int, seq: int, epoch: int, payload: bytes, salt: bytes
) -> None:
    node, scope, key, actor = texts
    draft = Draft(kind, payload, salt, time_ms, node=node, scope=scope, key=key, actor=actor or "")
    header, digest = seal("r1", draft, seq, bytes(32), epoch)
    assert canonical(orjson.loads(header)) == header
    assert sha256(header).digest() == digest
    event = read_record(header, salt, payload)
    assert (event.kind, event.node, event.scope, event.key, event.actor) == (kind, node, scope, key, actor or "")
    assert (event.seq, event.time_ms, event.epoch, event.run_id) == (seq, time_ms, epoch, "r1")


def test_7_the_bytes_are_these() -> None:
    """Pinned: what is written today must be readable, and verify, for ever."""
    (event,) = sealed(count=1)
    assert (
        event.header
        == (
            b'{"actor":"worker:w1","digest":"' + sha256(bytes(16) + event.payload).hexdigest().encode() + b'",'  # type: ignore[operator]
            b'"epoch":1,"format":1,"key":"k0","kind":"state.written","kind_version":1,"node":"main#1",'
            b'"prev":"'
            + sha256(b"1r1").hexdigest().encode()
            + b'","run":"r1","scope":"0/main#1","seq":1,"time_ms":1000}'
        )
    )


def test_7_the_hash_before_seq_1_is_of_format_and_run_id() -> None:
    assert genesis("r1") == sha256(b"1r1").digest()
    assert genesis("r1") != genesis("r2")


# --- payloads ---------------------------------------------------------------------------------------------------------


async def test_7_each_payload_has_a_salt_of_16_random_bytes() -> None:
    events = await journal_of("Ada") + await journal_of("Ada")
    salts = [event.salt for event in events]
    assert {len(salt) for salt in salts} == {16}
    assert len(set(salts)) == len(salts)


def digests_of(value: Any) -> Iterator[str]:
    """The unsalted digests under which somebody could look for a value."""
    for data in (canonical(value), orjson.dumps(value)):
        yield sha256(data).hexdigest()
    if isinstance(value, str):
        yield sha256(value.encode()).hexdigest()
    if isinstance(value, dict):
        for child in value.values():
            yield from digests_of(child)
    elif isinstance(value, list):
        for child in value:
            yield from digests_of(child)


async def test_7_headers_hold_no_unsalted_digest_of_a_value() -> None:
    """Fingerprints, manifest hashes and artifact ids stand only in payloads, which can be erased."""
    store = MemoryStore()
    events = await journal_of("Ada Lovelace", store)
    headers = b"\n".join(event.header for event in events).decode()
    hashes = set(store._artifacts)
    for event in events:
        hashes.update(re.findall(r"[0-9a-f]{40,64}", (event.payload or b"").decode()))
        hashes.update(digests_of(event.data))
        hashes.add(sha256(event.payload or b"").hexdigest())
    assert len(hashes) > 30
    assert [found for found in hashes if found in headers or found[:16] in headers] == []
    assert "Lovelace" not in headers


async def test_7_what_an_author_names_stands_in_headers_and_what_he_says_does_not() -> None:
    events = await journal_of("Ada Lovelace")
    by_kind = {event.kind: event for event in events}
    assert by_kind["told.everything"].key == "emit.told.everything"
    assert by_kind["run.started"].actor == "person:ada"


def erased(events: list[Event], *seqs: int) -> list[Event]:
    return [read_record(event.header, event.salt, None if event.seq in seqs else event.payload) for event in events]


def test_7_a_payload_can_be_erased_and_the_chain_still_verifies() -> None:
    events = sealed()
    assert check("r1", erased(events, 2, 4)) == check("r1", events)
    assert erased(events, 2)[1].data is None


# --- what a chain shows -----------------------------------------------------------------------------------------------


def changed(event: Event, **members: Any) -> Event:
    """A record with some members of its header changed, and its digest right."""
    header = orjson.loads(event.header) | members
    return read_record(canonical(header), event.salt, event.payload)


def first_bad(events: list[Event]) -> int:
    with pytest.raises(CorruptRecordError) as caught:
        check("r1", events)
    assert caught.value.ids["run_id"] == "r1"
    assert f"record {caught.value.ids['seq']}" in caught.value.message
    seq: int = caught.value.ids["seq"]
    return seq


def test_7_a_chain_shows_edited_removed_swapped_and_inserted_records() -> None:
    events = sealed()
    payload = read_record(events[2].header, events[2].salt, b'{"fingerprint":"f","name":"n","value":9}')
    salt = read_record(events[2].header, b"x" * 16, events[2].payload)
    assert first_bad([*events[:2], payload, *events[3:]]) == 3
    assert first_bad([*events[:2], salt, *events[3:]]) == 3
    assert first_bad([*events[:2], *events[3:]]) == 3
    assert first_bad(events[1:]) == 1
    assert first_bad([events[0], events[2], events[1], *events[3:]]) == 2
    assert first_bad([*events[:2], events[1], *events[2:]]) == 3
    edits = {"key": "k9", "actor": "person:eve", "time_ms": 1, "epoch": 7, "kind": "step.completed"}
    for member, value in edits.items():
        # The edited record is sound in itself; the one behind it does not follow it.
        assert first_bad([*events[:2], changed(events[2], **{member: value}), *events[3:]]) == 4
    assert first_bad([*events[:2], changed(events[2], seq=7), *events[3:]]) == 3
    assert first_bad([*events[:2], changed(events[2], run="r2"), *events[3:]]) == 3
    assert first_bad([*events[:2], changed(events[2], more=1), *events[3:]]) == 3
    assert first_bad([*events[:2], changed(events[2], format=2), *events[3:]]) == 3


def test_7_records_of_another_run_do_not_fit() -> None:
    assert first_bad(sealed("r2")) == 1


def check_again(events: list[Event], place: int, header: bytes, salt: bytes, payload: bytes) -> None:
    """Check a journal with other bytes in one place."""
    events[place] = read_record(header, salt, payload)
    check("r1", events)


@given(st.data())
def test_7_a_flipped_bit_is_named(data: st.DataObject) -> None:
    """Anywhere in a header, a salt or a payload: the record, or the one behind it, is the first bad one."""
    events = sealed()
    place = data.draw(st.integers(0, len(events) - 2))
    part = data.draw(st.sampled_from(["header", "salt", "payload"]))
    content = bytearray(getattr(events[place], part))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    event = events[place]
    parts: dict[str, Any] = {"header": event.header, "salt": event.salt, "payload": event.payload}
    parts[part] = bytes(content)
    with pytest.raises(CorruptRecordError) as caught:
        check_again(events, place, **parts)
    assert caught.value.ids.get("seq") in (None, place + 1, place + 2)


def test_7_a_chain_alone_does_not_show_a_cut_tail_or_a_rewrite() -> None:
    """That takes signed or witnessed heads; it is said so where it matters."""
    events = sealed()
    assert check("r1", events[:3]).seq == 3
    assert check("r1", sealed(count=4)) == check("r1", events[:4])


def test_7_a_part_of_a_journal_is_checked_against_the_head_before_it() -> None:
    events = sealed()
    before = Head(2, hash_of(events[1]))
    assert check("r1", events[2:], before) == check("r1", events)
    with pytest.raises(CorruptRecordError):
        check("r1", events[2:], Head(2, bytes(32)))


@pytest.mark.parametrize("header", [b"", b"{}", b"[1]", b"null", b'{"run":"r1"}', b"\xff", b'{"seq":'])
def test_7_what_is_no_header_is_a_corrupt_record(header: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        read_record(header, bytes(16), b"{}")


async def test_7_verify_names_the_first_bad_record() -> None:
    store = MemoryStore()
    await journal_of("Ada", store)
    stored = store._runs["r1"].events
    stored[2] = read_record(stored[2].header, stored[2].salt, b'{"fingerprint":"f"}')
    async with Runtime(store, execute=False) as runtime:
        with pytest.raises(CorruptRecordError) as caught:
            await runtime.run("r1").verify()
    assert caught.value.ids["seq"] == 3


# --- the manifest -----------------------------------------------------------------------------------------------------


async def test_7_run_started_pins_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("0123456789abcdef0123456789abcdef01234567\n")
    (tmp_path / "uv.lock").write_text("locked")
    monkeypatch.chdir(tmp_path)
    environ = {"REGION": "eu", "TOKEN": "not for the manifest"}
    events = await journal_of("Ada", environ=environ | {"HOME": "/root"}, provenance_environment=["REGION", "MISSING"])
    manifest = events[0].data
    assert (manifest["workflow"], manifest["version"]) == ("tells", "3")
    assert re.fullmatch(r"[0-9a-f]{64}", manifest["code"])
    assert re.fullmatch(r"[0-9a-f]{64}", manifest["fingerprint"])
    assert manifest["input"] == {"who": "Ada"}
    assert manifest["policy"] == {"skip_tags": []} or "skip_tags" in manifest["policy"]
    assert manifest["profile"] == "normal"
    assert manifest["tags"] == ["t"]
    provenance = manifest["provenance"]
    assert provenance["git_commit"] == "0123456789abcdef0123456789abcdef01234567"
    assert provenance["lock"] == {"file": "uv.lock", "sha256": sha256(b"locked").hexdigest()}
    assert provenance["python"].startswith("3.")
    assert provenance["platform"]
    assert provenance["environment"] == {"REGION": "eu"}
    assert "TOKEN" not in orjson.dumps(manifest).decode()


# --- kinds ------------------------------------------------------------------------------------------------------------

PAST_PARTICIPLES = {"cancel_requested", "put", "set"}


def test_7_kernel_event_kinds_are_noun_past_participle_and_listed_once() -> None:
    named = {name: value for name, value in vars(kinds_module).items() if isinstance(value, str) and "." in value}
    named = {name: value for name, value in named.items() if re.fullmatch(r"[A-Z_]+", name)}
    assert sorted(named.values()) == sorted(KINDS), "each constant is a kind, each kind has a constant"
    for name, kind in named.items():
        noun, _, verb = kind.partition(".")
        assert name == f"{noun}_{verb}".upper()
        assert verb.endswith(("ed", "en")) or verb in PAST_PARTICIPLES, kind
    for spec in KINDS.values():
        assert spec.version >= 1
        assert not set(spec.fields) & set(spec.optional)


@pytest.mark.parametrize("noun", sorted(RESERVED_NOUNS))
def test_7_authors_events_cannot_take_the_kernels_names(noun: str) -> None:
    for name in (noun, f"{noun}.completed", f"{noun}.my_own"):
        with pytest.raises(InvalidIdError):
            check_event_name(name)
    assert check_event_name(f"{noun}s") == f"{noun}s"
    assert check_event_name(f"my.{noun}") == f"my.{noun}"
