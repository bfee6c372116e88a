"""`verify`, `doctor`, `version`, and what they find in a store that was tampered with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.unit.cli.conftest import Perdure

Tamper = Callable[[str], None]
PAGE = 4096


@pytest.fixture
def tamper(tmp_path: Path) -> Tamper:
    """Changes the store behind the back of everybody."""

    def execute(sql: str) -> None:
        with closing(apsw.Connection(str(tmp_path / ".perdure" / "runs.db"))) as connection:
            connection.execute(sql)

    return execute


def test_verify_names_records_head_and_artifacts(perdure: Perdure) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    events = perdure("events", "r", "--json").lines
    found = perdure("verify", "r", "--json").json
    assert (found["run_id"], found["ok"], found["records"], found["artifacts"]) == ("r", True, len(events), 2)
    assert len(found["head"]) == 64
    assert f"{len(events)} records, 2 artifacts" in perdure("verify", "r").out


@pytest.mark.parametrize(
    ("sql", "seq"),
    [
        ("UPDATE events SET payload = CAST(replace(payload, 'red', 'rot') AS BLOB) WHERE seq = 3", 3),
        ("UPDATE events SET header = CAST(replace(header, 'person', 'nobody') AS BLOB) WHERE seq = 1", 2),
        ("DELETE FROM events WHERE seq = 4", 4),
        ("UPDATE events SET payload = x'7b7d' WHERE seq = 5", 5),
    ],
)
def test_verify_names_the_first_bad_record(perdure: Perdure, tamper: Tamper, sql: str, seq: int) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    tamper(sql)
    error = perdure("verify", "r", "--json", code=1).error
    assert (error["code"], error["ids"]["seq"]) == ("corrupt_record", seq)
    found = perdure("doctor", "--all", "--json", code=1).json
    assert not found["ok"]
    assert any(finding["broken"] for finding in found["findings"])


@pytest.mark.parametrize("payload", ["x'7b7d'", "x'ff'"])
def test_a_damaged_journal_is_a_typed_error_for_every_command(perdure: Perdure, tamper: Tamper, payload: str) -> None:
    perdure("run", "flows.py:two", "--id", "t", code=3)
    tamper(f"UPDATE events SET payload = {payload} WHERE seq = 3")
    for arguments in (["answer", "t", "yes"], ["cancel", "t"], ["pause", "t"], ["questions"], ["state", "t"]):
        assert perdure(*arguments, "--json", code=1).error["code"] == "corrupt_record", arguments
    shown = perdure("show", "t", "--json").json
    assert "record 3 of run t: its payload was changed" in shown["why"][0]["text"]
    assert [node["node"] for node in shown["nodes"]] == ["main#1"]  # what stands before the bad record
    assert perdure("events", "t", code=None).out.count("\n") >= 2
    assert perdure("run", "flows.py", "--id", "t", "--json", code=1).error["code"] == "corrupt_record"
    assert perdure("ps", "--json").lines[0]["reason"] == "corrupt_record"
    assert "is parked" in perdure("doctor", code=1).out


def test_verify_notices_an_artifact_that_was_changed_or_is_gone(perdure: Perdure, tamper: Tamper) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    tamper("UPDATE artifacts SET data = x'00' WHERE length(data) = 5")
    assert "was changed" in perdure("verify", "r", "--json", code=1).error["message"]
    tamper("DELETE FROM artifacts")
    assert "is missing" in perdure("verify", "r", "--json", code=1).error["message"]


def test_verify_all_goes_on_behind_a_bad_run(perdure: Perdure, tamper: Tamper) -> None:
    for name in ("a", "b", "c"):
        perdure("run", "flows.py:review", "--id", name)
    assert [line["ok"] for line in perdure("verify", "--all", "--json").lines] == [True, True, True]
    tamper("UPDATE events SET payload = x'7b7d' WHERE seq = 3 AND run = (SELECT number FROM runs WHERE run_id = 'b')")
    found = {line["run_id"]: line for line in perdure("verify", "--all", "--json", code=1).lines}
    assert [found[name]["ok"] for name in ("a", "b", "c")] == [True, False, True]
    assert found["b"]["seq"] == 3
    assert "b: BAD: record 3" in perdure("verify", "--all", code=1).out


def test_verify_takes_a_run_or_all(perdure: Perdure) -> None:
    for arguments in ([], ["r", "--all"]):
        assert perdure("verify", *arguments, "--json", code=2).error["code"] == "usage"


def test_doctor_finds_nothing_wrong_with_runs_of_every_kind(perdure: Perdure) -> None:
    perdure("run", "flows.py:rich")
    perdure("run", "flows.py:checked", code=1)
    perdure("run", "flows.py:order", code=7)
    perdure("run", "flows.py:payer", code=4)
    perdure("run", "flows.py:parent", code=3)
    perdure("run", "flows.py:two", "--id", "t", code=3)
    perdure("run", "flows.py:who", "--id", "c", code=3)
    perdure("cancel", "c")
    perdure("run", "flows.py:review", "--detach")
    [wait, _] = perdure("questions", "t", "--json").json
    perdure("answer", "t", "red", "--question", wait["wait_id"])
    found = perdure("doctor", "--all", "--json").json
    assert found["ok"]
    assert [finding for finding in found["findings"] if finding["check"] != "workers"] == []
    assert found["runs"] == {"cancelled": 1, "completed": 1, "failed": 1, "pending": 1, "running": 1, "waiting": 4}
    assert {"perdure", "python", "sqlite", "store", "durability", "path", "bytes", "log_bytes"} <= found.keys()


def test_doctor_notes_what_needs_attention(perdure: Perdure) -> None:
    perdure("run", "flows.py:who", "--id", "w", code=3)
    perdure("pause", "w")
    perdure("run", "flows.py:rich", "--id", "r", "--detach")
    text = perdure("doctor").out
    assert "note [paused] run w (who) is paused for" in text
    assert "1 run of workflow 'rich': no live worker has loaded it" in text
    assert "durability full" in text


def test_doctor_notes_questions_that_are_open_for_long(perdure: Perdure, monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.cli import diagnosis, times

    perdure("run", "flows.py:who", "--id", "w", code=3)
    later_ms = times.now_ms() + 3 * diagnosis.DAY_MS
    monkeypatch.setattr(diagnosis, "now_ms", lambda: later_ms)
    assert "note [questions] run w waits for 3d for an answer: Who?" in perdure("doctor").out


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("UPDATE runs SET status = 'running'", "status is 'running' in the index and 'waiting' in the journal"),
        ("UPDATE runs SET workflow = 'other'", "workflow is 'other' in the index and 'order' in the journal"),
        ("UPDATE runs SET reason = 'drift'", "reason is 'drift' in the index and '' in the journal"),
        ("DELETE FROM waits", "open waits are [] in the index"),
        ("UPDATE runs SET due_ms = due_ms + 1", "it is due later than its next deadline"),
    ],
)
def test_doctor_notices_an_index_that_disagrees_with_the_journal(
    perdure: Perdure, tamper: Tamper, sql: str, words: str
) -> None:
    perdure("run", "flows.py:order", "--id", "o", code=7)
    assert perdure("doctor", "--json").json["ok"]
    tamper(sql)
    found = perdure("doctor", "--json", code=1).json
    assert [finding["check"] for finding in found["findings"] if finding["broken"]] == ["index"]
    assert words in next(finding["text"] for finding in found["findings"] if finding["broken"])


def damage(file: Path, *pages: int) -> None:
    """Overwrite pages of a file, from 0."""
    content = bytearray(file.read_bytes())
    for page in pages:
        content[page * PAGE : (page + 1) * PAGE] = b"\xff" * PAGE
    file.write_bytes(content)


def root_page(file: Path, name: str) -> int:
    """The first page of a table or index, from 0."""
    with closing(apsw.Connection(str(file))) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchall()
    assert isinstance(page, int)
    return page - 1


@pytest.mark.parametrize("table", ["runs", "events", "workers", "waits", "migrations", "tags"])
def test_doctor_reports_damaged_pages_and_goes_on(perdure: Perdure, tmp_path: Path, tamper: Tamper, table: str) -> None:
    """Whatever can still be read is examined: the run that disagrees with its index is found beside the damage."""
    perdure("run", "flows.py:who", "--id", "w", "--tag", "t", code=3)
    perdure("run", "flows.py:order", "--id", "o", code=7)
    tamper("UPDATE runs SET reason = 'drift' WHERE run_id = 'o'")
    tamper("PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / ".perdure" / "runs.db"
    damage(file, root_page(file, table))
    found = perdure("doctor", "--json", code=1).json
    assert not found["ok"]
    checks = [finding["check"] for finding in found["findings"] if finding["broken"]]
    assert "integrity" in checks
    assert found["path"] == str(file)
    assert "BROKEN [integrity]" in perdure("doctor", code=1).out
    if table in ("waits", "workers"):
        assert checks[-1] == "index" if table == "workers" else "store" in checks
        assert found["runs"] == {"waiting": 2}


def test_doctor_reports_each_run_that_cannot_be_read(perdure: Perdure, tmp_path: Path, tamper: Tamper) -> None:
    for name in ("a", "b"):
        perdure("run", "flows.py:rich", "--id", name)
    tamper("PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / ".perdure" / "runs.db"
    damage(file, root_page(file, "events_by_run"))
    found = perdure("doctor", "--json", code=1).json
    journals = [finding["text"] for finding in found["findings"] if finding["check"] == "journal"]
    assert [text.partition(":")[0] for text in journals] == ["run b", "run a"]
    lines = perdure("verify", "--all", "--json", code=1).lines
    assert [(line["run_id"], line["ok"]) for line in lines] == [("b", False), ("a", False)]


@pytest.mark.time_limit(120)
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "flows.py:rich", "--id", "new"],
        ["run", "flows.py", "--id", "w", "--answer", "Ada"],
        ["worker", "flows.py", "--once"],
        ["answer", "w", "Ada"],
        ["show", "r"],
        ["questions"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_no_command_hangs_or_breaks_on_a_damaged_page(
    perdure: Perdure, tmp_path: Path, tamper: Tamper, arguments: list[str]
) -> None:
    """Each page of the file is damaged once. Either the command did not need it, or the error is a typed one."""
    perdure("run", "flows.py:who", "--id", "w", "--tag", "t", code=3)
    perdure("run", "flows.py:rich", "--id", "r")
    perdure("run", "flows.py:order", "--id", "o", "--detach")
    tamper("PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / ".perdure" / "runs.db"
    sound = file.read_bytes()
    refused = 0
    for page in range(1, len(sound) // PAGE, 3 if arguments[0] == "worker" else 1):  # which looks again for a while
        damaged = tmp_path / f"page-{page}" / "runs.db"
        damaged.parent.mkdir()
        damaged.write_bytes(sound)
        damage(damaged, page)
        ended = perdure(*arguments, "--store", f"sqlite:///{damaged.relative_to(tmp_path)}", "--json", code=None)
        if ended.code == 1:
            refused += 1
            assert ended.error["category"] == "integrity", (page, ended)
    assert refused > 0


def test_version_names_what_it_stands_on(perdure: Perdure) -> None:
    found = perdure("version", "--json").json
    assert found["sqlite"] == apsw.sqlite_lib_version()
    assert (
        perdure("version").out == f"perdure {found['perdure']} (Python {found['python']}, SQLite {found['sqlite']})\n"
    )
    assert perdure("--version").out == f"perdure {found['perdure']}\n"
