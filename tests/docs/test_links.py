"""Links within the documentation lead somewhere, and every page can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchor, read_page


def target_of(path: Path, target: str) -> tuple[Path, str]:
    name, _, part = target.partition("#")
    return ((path.parent / name).resolve() if name else path), part


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for line, target in read_page(path).links:
        file, part = target_of(path, target)
        if target.startswith(("http://", "https://")):
            dead.append(f"{line}: {target} leads out of the repository, where nobody checks it")
        elif not file.exists():
            dead.append(f"{line}: there is no {target}")
        elif part and part not in read_page(file).anchors:
            dead.append(f"{line}: {target} has no such heading")
    assert dead == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path in seen or path.suffix != ".md" or not path.exists():
            continue
        seen.add(path)
        ahead += [target_of(path, target)[0] for _, target in read_page(path).links]
    assert [str(path.relative_to(ROOT)) for path in PAGES if path not in seen] == []


def test_anchors_are_made_as_github_makes_them() -> None:
    assert anchor("What is guaranteed, exactly") == "what-is-guaranteed-exactly"
    assert anchor("`once` and doubt") == "once-and-doubt"
