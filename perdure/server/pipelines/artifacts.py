"""The artifacts of a pipeline's run, as clients of `/pipelines` see them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from perdure.core.events import Event
from perdure.server.pipelines.times import iso

_VISIT = re.compile(r"(?P<node>[^/]+)/visit-(?P<visit>[0-9]+)/(?P<name>.+)", re.DOTALL)
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")

SERVED_AS: Final = frozenset(("application/json", "text/plain", "text/markdown", "text/vnd.graphviz"))
"""Media types that are told as they are; anything else is bytes."""

TEXTS: Final = (".md", ".txt")
"""How files end that are text, whatever they were kept as."""


class ArtifactEntry(NamedTuple):
    """A file that a run keeps.

    Args:
        sha256: its name.
        path: of the stage's file, or of the run's.
        kind: `json`, `log`, `text`, `graphviz` or `file`.
        size: in bytes.
        media_type: as it was kept.
        time_ms: when.
        visit: of the stage that kept it; 0 for the run's own.
    """

    sha256: str
    path: str
    kind: str
    size: int
    media_type: str
    time_ms: int
    visit: int = 0

    @property
    def data(self) -> dict[str, Any]:
        """As clients see it."""
        return {
            "artifact_id": self.sha256,
            "path": self.path,
            "kind": self.kind,
            "size": self.size,
            "updated_at": iso(self.time_ms),
        }

    @property
    def file_name(self) -> str:
        """What it is saved as: nothing in it can mean anything to a file system or a header."""
        return _PLAIN.sub("-", self.path.rpartition("/")[2]).strip(".-") or "artifact"

    @property
    def served_type(self) -> str:
        """The media type that it is sent with."""
        plain = self.media_type.partition(";")[0].strip()
        if plain not in SERVED_AS:
            return "application/octet-stream"
        return f"{plain}; charset=utf-8" if plain.startswith("text/") else plain


def entries_of(event: Event, known: Mapping[str, ArtifactEntry]) -> dict[str, ArtifactEntry]:
    """The entries that one `artifact.put` adds: `<node>/visit-<n>/<name>`, and `<node>/<name>` for the newest visit.

    Args:
        event: of the journal.
        known: the entries so far.
    """
    data = event.data
    path = data.get("name")
    if not isinstance(path, str) or not path:
        return {}
    media_type = str(data.get("media_type") or "")
    kind = _kind_of(path, media_type, str(data.get("artifact_kind") or ""))
    entry = ArtifactEntry(data["artifact"], path, kind, int(data["size"]), media_type, event.time_ms)
    found = _VISIT.fullmatch(path)
    if found is None:
        return {path: entry}
    entry = entry._replace(visit=int(found["visit"]))
    newest = f"{found['node']}/{found['name']}"
    before = known.get(newest)
    if before is not None and before.visit > entry.visit:
        return {path: entry}
    return {path: entry, newest: entry._replace(path=newest)}


def _kind_of(path: str, media_type: str, told: str) -> str:
    if told == "graphviz" or path.endswith(".dot"):
        return "graphviz"
    if path.endswith(".log"):
        return "log"
    if media_type.startswith("application/json") or path.endswith(".json"):
        return "json"
    return "text" if media_type.startswith("text/") or path.endswith(TEXTS) else "file"
