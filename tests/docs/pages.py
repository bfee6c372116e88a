"""The pages of the documentation, read as Markdown: their code blocks, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

_FENCE: Final = re.compile(r"(?P<indent> *)```(?P<language>\S*) *(?P<rest>.*)")
_LINK: Final = re.compile(r"(?<!!)\[[^\]\n]*(?:\n[^\]\n]*)?\]\((?P<target>[^)\s]+)\)")
_HEADING: Final = re.compile(r"#{1,6} +(?P<text>.+?) *#*")


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: its file.
        line: of its first line of code, from 1.
        language: what stands behind the fence.
        text: its code, each line with its newline.
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """Its lines, without newlines."""
        return self.text.splitlines()


@dataclass(frozen=True)
class Page:
    """A page of the documentation.

    Attributes:
        blocks: in their order.
        anchors: what a link may point to.
        links: (line, target).
    """

    path: Path
    blocks: list[Block] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    links: list[tuple[int, str]] = field(default_factory=list)


def read_page(path: Path) -> Page:
    """Parse a page as far as these tests need it."""
    page = Page(path)
    prose = []
    lines = iter(enumerate(path.read_text().splitlines(), 1))
    for number, line in lines:
        fence = _FENCE.fullmatch(line)
        if fence is None:
            prose.append(line)
            heading = _HEADING.fullmatch(line)
            if heading is not None:
                page.anchors.add(anchor(heading["text"]))
            continue
        assert not fence["rest"], f"{path}:{number}: nothing may follow the language of a block"
        prose.append("")
        code = []
        for _, inside in lines:
            prose.append("")
            if inside.strip() == "```":
                break
            code.append(inside.removeprefix(fence["indent"]) + "\n")
        else:
            raise AssertionError(f"{path}:{number}: the block does not end")
        page.blocks.append(Block(path, number + 1, fence["language"], "".join(code)))
    text = "\n".join(prose)
    page.links.extend((text.count("\n", 0, link.start()) + 1, link["target"]) for link in _LINK.finditer(text))
    return page


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def table_rows(path: Path, first_column: str) -> Iterator[list[str]]:
    """The rows of the table whose head begins with `first_column`, without backticks."""
    inside: bool | None = None
    for line in path.read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside = None
        elif inside is None:
            inside = cells[0] == first_column
        elif inside and not set(cells[0]) <= set("-: "):
            yield cells
