"""How deep JSON is nested, found without parsing it: a parser that recurses is what a deep text is meant to hurt."""

from __future__ import annotations

import re
from typing import Final

# A string that is not closed reaches to the end, so that no byte is looked at twice whatever the text.
TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]+|[\]}]+', re.DOTALL)


def deeper_than(data: bytes, limit: int) -> bool:
    """Whether a JSON text is nested deeper than this; of a text that is no JSON, whether it seems to be.

    Args:
        data: the text.
        limit: how many arrays and objects may lie inside each other.
    """
    depth = 0
    for match in TOKEN.finditer(data):
        first = match[0][:1]
        if first in b"[{":
            depth += len(match[0])
            if depth > limit:
                return True
        elif first in b"]}":
            depth -= len(match[0])
    return False
