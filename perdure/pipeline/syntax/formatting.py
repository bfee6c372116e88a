"""The canonical text of a syntax tree.

One statement a line, four blanks for each pair of braces, no `;`. Attributes stand on one line where they fit, else
each on its own. Values are as written. Comments and single empty lines stay. To format twice is to format once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perdure.pipeline.syntax.tree import (
    Assignment,
    AttributeList,
    Comment,
    DefaultsStatement,
    EdgeStatement,
    NodeStatement,
    Statement,
    Subgraph,
    Tree,
)

LINE_LENGTH: Final = 100
"""Attributes that would make a line longer stand on lines of their own."""

_INDENT = "    "


def format_tree(tree: Tree) -> str:
    """The canonical text of a tree. Reading it gives the same document, but for positions.

    Args:
        tree: as `parse_tree` gives it.

    Returns:
        The text; it ends with a line feed.
    """
    page = _Page()
    for comment in tree.head.comments:
        page.comment(comment, 0)
    page.line(f"digraph {tree.head.name.text} {{", 0, after_blank=tree.head.follows_blank_line)
    _write_items(page, tree.items, 1)
    page.line("}", 0)
    for comment in tree.comments_after:
        page.comment(comment, 0)
    return page.text()


class _Page:
    """Lines that grow. Kept in pieces, so that a line of many comments costs no more than its length."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._ends_in_line_comment = False
        self._is_block_new = True

    def line(self, text: str, depth: int, *, after_blank: bool = False) -> None:
        """Begin a new line."""
        if self._pieces:
            self._pieces.append("\n\n" if after_blank and not self._is_block_new else "\n")
        self._pieces += (_INDENT * depth, text)
        self._ends_in_line_comment = False
        self._is_block_new = text.endswith("{")

    def more(self, text: str) -> None:
        """Go on with the line."""
        self._pieces.append(text)

    def comment(self, comment: Comment, depth: int) -> None:
        """Write a comment where it belongs: behind what it follows, or on a line of its own."""
        if comment.is_trailing and self._pieces and not self._ends_in_line_comment:
            self._pieces += ("  ", comment.text)
        else:
            self.line(comment.text, depth, after_blank=comment.follows_blank_line)
            self._is_block_new = False
        self._ends_in_line_comment = comment.text.startswith("//")

    def text(self) -> str:
        """All lines."""
        return "".join([*self._pieces, "\n"])


def _write_items(page: _Page, items: Sequence[Statement | Comment], depth: int) -> None:
    for item in items:
        if isinstance(item, Comment):
            page.comment(item, depth)
        elif isinstance(item, Subgraph):
            name = "" if item.name is None else f"{item.name.text} "
            page.line(f"subgraph {name}{{", depth, after_blank=item.follows_blank_line)
            _write_items(page, item.items, depth + 1)
            page.line("}", depth)
        elif isinstance(item, Assignment):
            page.line(_assignment(item), depth, after_blank=item.follows_blank_line)
        else:
            head, attributes = _head(item)
            page.line(head, depth, after_blank=item.follows_blank_line)
            if attributes is not None:
                _write_attributes(page, attributes, len(head), depth)


def _head(statement: DefaultsStatement | EdgeStatement | NodeStatement) -> tuple[str, AttributeList | None]:
    """What stands before the brackets, and what stands in them."""
    if isinstance(statement, DefaultsStatement):
        return statement.target, statement.attributes
    if isinstance(statement, EdgeStatement):
        return " -> ".join(name.text for name in statement.names), statement.attributes
    return statement.name.text, statement.attributes


def _write_attributes(page: _Page, attributes: AttributeList, head_length: int, depth: int) -> None:
    written = [_assignment(one) for one in attributes.assignments]
    length = len(_INDENT) * depth + head_length + len(" []") + sum(len(one) + len(", ") for one in written) - len(", ")
    is_plain = len(written) == len(attributes.items) and not any("\n" in one for one in written)
    if is_plain and length <= LINE_LENGTH:
        page.more(f" [{', '.join(written)}]")
        return
    page.more(" [")
    left = len(written)
    for item in attributes.items:
        if isinstance(item, Comment):
            page.comment(item, depth + 1)
        else:
            left -= 1
            page.line(_assignment(item) + ("," if left else ""), depth + 1)
    page.line("]", depth)


def _assignment(assignment: Assignment) -> str:
    return f"{assignment.key}={assignment.written.source}"
