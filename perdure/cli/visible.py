"""Text as a terminal may be given it.

Much of what is shown was written by somebody else: a model, a caller, a service. What would move the cursor, hide what
stands beside it or turn its direction is shown as what it is, so that a person reads what is there.
"""

from __future__ import annotations

import re
from typing import Final

_ACTING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls (all but the tab and the newline), separators of lines, marks of direction, halves of characters."""


def visible(text: str) -> str:
    """The text, with what acts on a terminal escaped as JSON does it."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
