"""Pictures for tests: a corpus of texts that want to be more than text, and pictures made of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, get_args

from perdure.pipeline.drawing.picture import Direction, NodeStatus, Picture, PictureEdge, PictureNode, Shape

HOSTILE: Final = (
    '"><script>alert(1)</script>',
    "&",
    "&amp;",
    "&#60;b&#62;",
    "]]>",
    "<!ENTITY x SYSTEM 'file:///etc/passwd'>",
    "\\N",
    "\\N \\G \\L \\l \\r",
    "<b>",
    "<b>bold</b>",
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    '"',
    "'",
    "\\",
    '\\"',
    'x", URL="javascript:alert(1)',
    "a\nb\r\nc",
    "\x00\x01\x1b[31m\x07\x7f",
    "left\u202eright",
    "\ud800",
    "\udfff half",
    "\ufffe\uffff\U000e0041",
    "A" * 1_000_000,
    "\n" * 1_000_000 + "late",
    "😀 👩\u200d👩\u200d👧",
    "é ß 漢字 العربية",
    '%%{init: {"theme": "dark"}}%%',
    "%% comment",
    'click n0 href "javascript:alert(1)"',
    "end",
    "END",
    "subgraph x",
    "direction LR",
    "flowchart direction  RL",
    "linkStyle 0 stroke:red",
    "style a:b#60;",
    "classDef a:b#60;",
    ":::done",
    "n0@{shape: rect}",
    "`**bold**`",
    "1. list",
    "- item",
    "www.example.com",
    "fa:fa-car",
    "$$x^2$$",
    "ﬂ°°60¶ß",
    "#quot;",
    "a|b",
    "a --> b",
    "---\nconfig:\n  theme: dark\n---",
    "[x] (y) {z} /w\\",
    "<br/>",
    "",
    "   ",
    "\u2028",
    "0",
    "_",
)


def of_text(text: str) -> Picture:
    """A picture with the text in every place where a text can stand."""
    other = text + "2"
    return Picture(
        text,
        [PictureNode(text, text, "box", "waiting", 2, text), PictureNode(other, text, "house"), PictureNode("z", "z")],
        [PictureEdge(text, other, text, True, 3), PictureEdge("z", text, text), PictureEdge(text, text, text, True)],
        text,
    )


def generated(number: int, seed: int = 7) -> Iterator[Picture]:
    """Pictures of all shapes and states, with texts from the corpus and from anywhere."""
    source = random.Random(seed)

    def text() -> str:
        return "".join(
            source.choice(HOSTILE)[:20]
            if source.random() < 0.5
            else chr(source.choice((source.randrange(32, 127), source.randrange(0x3000), source.randrange(0x110000))))
            for _ in range(source.randint(0, 6))
        )

    for _ in range(number):
        ids = list(dict.fromkeys(text() for _ in range(source.randint(1, 12))))
        shapes, statuses = get_args(Shape), get_args(NodeStatus)
        nodes = [
            PictureNode(one, text(), source.choice(shapes), source.choice(statuses), source.randint(0, 3), text())
            for one in ids
        ]
        edges = [
            PictureEdge(source.choice(ids), source.choice(ids), text(), source.random() < 0.5, source.randint(0, 2))
            for _ in range(source.randint(0, 20))
        ]
        yield Picture(text(), nodes, edges, text(), source.choice(get_args(Direction)))
