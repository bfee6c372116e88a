"""What is taken of the files that a command left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perdure.core.values import codec_for
from perdure.pipeline.commands import collect_files, files

MEBIBYTE = 1024 * 1024


def test_files_come_by_their_paths_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.txt", "deep/er/c", "a", "deep/z"):
        (tmp_path / name).write_text(name)
    collected = collect_files(tmp_path)
    assert list(collected.items()) == [(name, name.encode()) for name in ("a", "b.txt", "deep/er/c", "deep/z")]
    assert collected.left_out == {}


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    collected = collect_files(tmp_path / "nowhere")
    assert (collected, collected.left_out) == ({}, {})


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    stage = tmp_path / "stage"
    stage.mkdir()
    os.mkfifo(stage / "fifo")
    (stage / "link").symlink_to(outside / "secret")
    (stage / "folder").symlink_to(outside)
    (stage / "dangling").symlink_to("nothing")
    (stage / "kept").write_text("kept")
    collected = collect_files(stage)
    assert collected == {"kept": b"kept"}
    assert collected.left_out == {
        "dangling": "a link",
        "fifo": "no regular file",
        "folder": "a link",
        "link": "a link",
    }


def test_what_takes_a_files_place_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert files._content(tmp_path / "fifo", 100) is None
    with pytest.raises(OSError, match="symbolic"):
        files._content(tmp_path / "link", 100)


def test_a_huge_file_is_left_out_and_the_smaller_ones_behind_it_are_not(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as huge:
        huge.truncate(1 << 40)
    (tmp_path / "b").write_bytes(b"b" * 9 * MEBIBYTE)
    (tmp_path / "c").write_bytes(b"c" * 8 * MEBIBYTE)
    (tmp_path / "d").write_bytes(b"d" * 7 * MEBIBYTE)
    collected = collect_files(tmp_path)
    assert list(collected) == ["b", "d"]
    assert set(collected.left_out) == {"a", "c"}


def test_a_file_that_grows_while_it_is_read_is_bounded() -> None:
    assert files._content(Path("/proc/self/status"), 100) is None  # it says that it is empty, and is not


def test_no_more_files_are_read_than_allowed_and_the_status_is_among_them(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "status.json", "sub"):
        (tmp_path / name).write_text("x")
    collected = collect_files(tmp_path, most_files=3)
    assert list(collected) == ["a", "b", "status.json"]
    assert (set(collected.left_out), collected.left_out_count) == ({"c", "sub"}, 2)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\u202ename", os.fsdecode(b"\xff")])
def test_names_with_control_characters_are_left_out_and_told_escaped(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    (tmp_path / "ümlaut ok").write_text("y")
    collected = collect_files(tmp_path)
    assert collected == {"ümlaut ok": b"y"}
    assert list(collected.left_out) == [name.encode("unicode_escape").decode()]
    codec = codec_for(dict[str, str])
    assert codec.load(codec.dump(collected.left_out)) == collected.left_out


def test_a_folder_of_very_many_files_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MOST_ENTRIES", 20)
    monkeypatch.setattr(files, "_MOST_TOLD", 5)
    for number in range(30):
        (tmp_path / f"{number:02}").write_text("x")
    collected = collect_files(tmp_path, most_files=4)
    assert len(collected) == 4
    assert (len(collected.left_out), collected.left_out_count) == (5, 17)
    assert "may be others" in next(iter(collected.left_out.values()))
