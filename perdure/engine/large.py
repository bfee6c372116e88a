"""Large values by reference: in a payload a value over 64 KiB is replaced by the name of the artifact that holds it.

The mark is an object with the one key `$artifact`; an author's own key that begins with `$` is escaped, so there is no
confusion.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import orjson

from perdure.store.port import ArtifactRow, Store

INLINE_BYTES: Final = 64 * 1024
"""A value whose JSON is longer becomes an artifact."""


def by_reference(data: bytes, keep: Callable[[ArtifactRow], None]) -> bytes:
    """The JSON bytes to put into a payload: the value's own, or the mark of the artifact that `keep` was given."""
    if len(data) <= INLINE_BYTES:
        return data
    name = sha256(data).hexdigest()
    keep(ArtifactRow(name, data))
    return b'{"$artifact":"%s"}' % name.encode()


def is_mark(tree: Any) -> bool:
    """Whether a payload holds the mark of an artifact in place of a value."""
    return type(tree) is dict and len(tree) == 1 and "$artifact" in tree


async def resolved(store: Store, tree: Any) -> Any:
    """The JSON tree that a payload holds, or that its mark refers to."""
    if is_mark(tree):
        return orjson.loads(await store.get_artifact(tree["$artifact"]))
    return tree
