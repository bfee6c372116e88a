"""Text for terminals, and JSON for programs."""

from __future__ import annotations

import json

import orjson
import pytest

from perdure.pipeline.drawing.as_json import write_json
from perdure.pipeline.drawing.picture import Picture, PictureEdge, PictureNode
from perdure.pipeline.drawing.text import write_text
from tests.unit.pipeline.drawing.pictures import HOSTILE, generated, of_text

PICTURE = Picture(
    "release",
    [
        PictureNode("start", "start", "Mdiamond", "done", 1),
        PictureNode("gate", "Publish?", "hexagon", "waiting", 3, "asks: Publish?"),
        PictureNode("exit", "exit", "Msquare"),
    ],
    [
        PictureEdge("start", "gate", count=1),
        PictureEdge("gate", "exit", "yes"),
        PictureEdge("gate", "gate", "no", True, 2),
    ],
    "run r: waiting",
)


def test_the_outline_tells_what_ran_and_where_it_goes() -> None:
    assert write_text(PICTURE).splitlines() == [
        "release – run r: waiting",
        "✓ start",
        "    → gate  ×1",
        "◷ gate Publish? waiting ×3",
        "    asks: Publish?",
        "    → exit  yes",
        "    → gate  no ×2",
        "· exit",
    ]


def test_where_there_is_only_ascii_signs_have_stand_ins() -> None:
    text = write_text(PICTURE, ascii_only=True)
    assert text.isascii()
    assert text.splitlines()[1:4] == ["+ start", "    -> gate  x1", "o gate Publish? waiting x3"]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:20]))
def test_no_text_commands_the_terminal(text: str, ascii_only: bool) -> None:
    shown = write_text(of_text(text), ascii_only=ascii_only)
    assert len(shown) < 20_000
    assert all(one.isprintable() or one in "\n\u200c\u200d" for one in shown)
    assert len(shown.splitlines()) <= 9
    assert len(shown.encode("ascii" if ascii_only else "utf-8")) >= len(shown)


def test_json_holds_the_whole_picture() -> None:
    assert json.loads(write_json(PICTURE)) == {
        "name": "release",
        "note": "run r: waiting",
        "direction": "TB",
        "nodes": [
            {"id": "start", "label": "start", "shape": "Mdiamond", "status": "done", "visits": 1, "detail": ""},
            {
                "id": "gate",
                "label": "Publish?",
                "shape": "hexagon",
                "status": "waiting",
                "visits": 3,
                "detail": "asks: Publish?",
            },
            {"id": "exit", "label": "exit", "shape": "Msquare", "status": "none", "visits": 0, "detail": ""},
        ],
        "edges": [
            {"from": "start", "to": "gate", "label": "", "conditional": False, "count": 1},
            {"from": "gate", "to": "exit", "label": "yes", "conditional": False, "count": 0},
            {"from": "gate", "to": "gate", "label": "no", "conditional": True, "count": 2},
        ],
    }


def test_any_reader_of_json_reads_it() -> None:
    for picture in [*map(of_text, HOSTILE), *generated(50)]:
        text = write_json(picture)
        assert text.isascii()
        assert orjson.loads(text) == json.loads(text)
        assert len(json.loads(text)["nodes"]) == len(picture.nodes)
