"""Errors of drawing. They belong to the tree of `perdure.core.errors`."""

from __future__ import annotations

from perdure.core.errors import InputError


class DrawingError(InputError):
    """A picture cannot be drawn in the format that was asked for."""

    code = "drawing"
    default_hint = "take another format: --format text, mermaid, dot or json"


class DrawingExtraMissingError(DrawingError):
    """The library that lays out pictures is not installed."""

    code = "drawing_extra_missing"
    default_hint = "pip install 'perdure[drawing]', or take --format mermaid, dot, json or text"


class PictureTooLargeError(DrawingError):
    """A picture has too many nodes or edges to be laid out."""

    code = "picture_too_large"
    default_hint = "take --format json or mermaid, or lay out the output of --format dot with a tool of your own"


class LayoutFailedError(DrawingError):
    """The layout of a picture took too long or broke down."""

    code = "layout_failed"
    default_hint = "take --format json or mermaid, or lay out the output of --format dot with a tool of your own"
