"""SVG that holds nothing but shapes and text: what Graphviz drew, built anew.

Only what is listed here gets through: no script, no style sheet, no link, no image, no foreign object, no event
handler, no reference to anything outside or inside, no document type and no entity. Whatever else there is in the
drawing is an error, so that a new version of Graphviz cannot bring it in unseen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from perdure.pipeline.drawing.errors import LayoutFailedError

NAMESPACE: Final = "http://www.w3.org/2000/svg"

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?"
_COLOUR = re.compile(r"#[0-9a-f]{6}|none|transparent|black|white")
_LENGTH = re.compile(rf"{_NUMBER}(?:pt)?")
_NUMBERS = re.compile(rf"(?:{_NUMBER}[ ,]*)+")

ATTRIBUTES: Final[Mapping[str, re.Pattern[str]]] = {
    "class": re.compile(r"[a-z]+(?: [a-z]+)*"),
    "cx": _LENGTH,
    "cy": _LENGTH,
    "d": re.compile(r"[MLCZ0-9eE., -]+"),
    "fill": _COLOUR,
    "font-family": re.compile(r"[A-Za-z, -]+"),
    "font-size": _LENGTH,
    "height": _LENGTH,
    "id": re.compile(r"[a-z]+[0-9]*"),
    "points": _NUMBERS,
    "rx": _LENGTH,
    "ry": _LENGTH,
    "stroke": _COLOUR,
    "stroke-dasharray": _NUMBERS,
    "stroke-width": _LENGTH,
    "text-anchor": re.compile(r"start|middle|end"),
    "transform": re.compile(r"[a-z0-9(). ,-]+"),
    "viewBox": _NUMBERS,
    "width": _LENGTH,
    "x": _LENGTH,
    "y": _LENGTH,
}
"""The attributes that get through, and what their values look like."""

ELEMENTS: Final = frozenset(("svg", "g", "title", "polygon", "polyline", "ellipse", "path", "text"))
"""The elements that get through."""

_DROPPED: Final = frozenset(("{http://www.w3.org/XML/1998/namespace}space",))


def rebuilt(drawn: bytes, caption: str, titles: Mapping[str, str]) -> str:
    """A drawing of Graphviz, built anew.

    Args:
        drawn: SVG.
        caption: the title of the whole.
        titles: by the id of a node in the drawing, its title; edges lose theirs.

    Raises:
        LayoutFailedError: the drawing is not SVG, or holds more than shapes and text.
    """
    if b"<!ENTITY" in drawn:
        raise LayoutFailedError("the layout gave entities")
    try:
        root = ElementTree.fromstring(drawn)
    except ElementTree.ParseError as error:
        raise LayoutFailedError(f"the layout gave no SVG: {error}") from error
    made = _element(root)
    if made.tag != "svg":
        raise LayoutFailedError(f"the layout gave no SVG, but <{made.tag}>")
    made.attrib = {"xmlns": NAMESPACE, "role": "img"} | made.attrib
    _entitle(made, caption, titles)
    return ElementTree.tostring(made, encoding="unicode") + "\n"


def _element(read: Element) -> Element:
    """An element with all that it holds. Graphviz nests three or four deep."""
    space, _, name = read.tag.rpartition("}")
    if space != "{" + NAMESPACE or name not in ELEMENTS:
        raise LayoutFailedError(f"the layout drew a <{name}>, which does not belong in a picture")
    made = Element(name)
    for key, value in read.attrib.items():
        if key in _DROPPED:
            continue
        pattern = ATTRIBUTES.get(key)
        if pattern is None or pattern.fullmatch(value) is None:
            raise LayoutFailedError(f"the layout gave <{name}> a {key} of {value[:80]!r}")
        made.set(key, value)
    made.text, made.tail = read.text, read.tail
    made.extend([_element(child) for child in read])
    return made


def _entitle(root: Element, caption: str, titles: Mapping[str, str]) -> None:
    for group in list(root.iter("g")):
        title = group.find("title")
        if title is None:
            continue
        kind = group.get("class", "").partition(" ")[0]
        if kind == "graph":
            title.text = caption
        elif kind == "node" and group.get("id") in titles:
            title.text = titles[group.get("id", "")]
        else:
            group.remove(title)
