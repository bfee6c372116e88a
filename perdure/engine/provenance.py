"""What a run was built from: recorded in its manifest, so that one can tell years later which code ran."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from perdure.core.version import VERSION

_LOCK_FILES: Final = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "requirements.txt", "constraints.txt")


def provenance(folder: Path, environ: Mapping[str, str], names: Sequence[str] = ()) -> dict[str, Any]:
    """Git commit, lock-file hash, Python, platform, and the allowed environment variables.

    Args:
        folder: where to look for a git checkout and a lock file, here and above.
        environ: the environment.
        names: the variables that may be recorded; nothing else of the environment is.
    """
    root = next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)
    found: dict[str, Any] = {
        "perdure": VERSION,
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
    }
    commit = _git_commit(root)
    if commit is not None:
        found["git_commit"] = commit
    for name in _LOCK_FILES:
        path = root / name
        if path.is_file():
            found["lock"] = {"file": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            break
    environment = {name: environ[name] for name in names if name in environ}
    return found | ({"environment": environment} if environment else {})


def _git_commit(root: Path) -> str | None:
    """The commit that HEAD names, read from the files of a checkout; `None` where that is not simple."""
    try:
        head = (root / ".git" / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        loose = root / ".git" / name
        if loose.is_file():
            return loose.read_text().strip()
        for line in (root / ".git" / "packed-refs").read_text().splitlines():
            if line.endswith(" " + name):
                return line.split(" ", 1)[0]
    except OSError:
        return None
    return None
