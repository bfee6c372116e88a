"""Store URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.core.errors import StoreUrlError
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SQLiteStore
from perdure.store.url import DEFAULT_URL, open_store


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative, absolute = open_store("sqlite:///some/runs.db"), open_store("sqlite:////var/runs.db")
    assert isinstance(relative, SQLiteStore)
    assert isinstance(absolute, SQLiteStore)
    assert relative.path == str(tmp_path / "some" / "runs.db")
    assert absolute.path == "/var/runs.db"
    assert absolute.url == "sqlite:////var/runs.db"
    assert relative.durability == "full"


def test_the_default_lies_in_the_directory_one_works_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store()
    assert isinstance(store, SQLiteStore)
    assert store.path == str(tmp_path / ".perdure" / "runs.db")
    assert DEFAULT_URL == "sqlite:///.perdure/runs.db"
    assert list(tmp_path.iterdir()) == []


def test_durability_is_handed_on() -> None:
    assert open_store("sqlite:////a.db", durability="process").durability == "process"
    assert open_store("memory://", durability="full").durability == "none"
    with pytest.raises(StoreUrlError):
        open_store("sqlite:////a.db", durability="none")


def test_a_url_names_the_same_file_again() -> None:
    store = open_store("sqlite:////tmp/a%20b%3F%25.db")
    assert isinstance(store, SQLiteStore)
    assert store.path == "/tmp/a b?%.db"
    again = open_store(store.url)
    assert isinstance(again, SQLiteStore)
    assert again.path == store.path


def test_memory() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("runs.db", "sqlite:///runs.db"),
        ("/var/runs.db", "sqlite:////var/runs.db"),
        ("sqlite://runs.db", "sqlite:///runs.db"),
        ("sqlite://", "sqlite:///"),
        ("sqlite:///", "sqlite:///"),
        ("sqlite:///directory/", "sqlite:///"),
        ("sqlite:///.", "sqlite:///"),
        ("sqlite:////var/..", "sqlite:///"),
        ("sqlite:///a.db?mode=ro", ""),
        ("sqlite:///a.db#x", ""),
        ("memory://name", ""),
        ("mysql://host/a", "sqlite:///"),
        ("", "sqlite:///"),
    ],
)
def test_anything_else_is_refused(url: str, hint: str) -> None:
    with pytest.raises(StoreUrlError) as caught:
        open_store(url)
    assert hint in caught.value.hint
