"""Who may ask for what: the scope that a request needs, known from its method and path alone."""

from __future__ import annotations

from typing import Final

from perdure.server.admission.keys import ADMIN, QUESTIONS_ANSWER, RUNS_READ, RUNS_WRITE, WORKERS

SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
OPEN: Final = frozenset((("GET", "/healthz"), ("GET", "/readyz")))
"""All that may be asked for by anybody."""


def is_open(method: str, path: str) -> bool:
    """Whether anybody may ask for it."""
    return (method, path) in OPEN


def scope_for(method: str, path: str) -> str:
    """The scope that a request needs. A route that nobody thought of here needs one, too."""
    if path == "/webhooks" or path.startswith("/webhooks/"):
        return ADMIN
    if path == "/workers" or path.startswith("/workers/"):
        return WORKERS
    if method in SAFE:
        return RUNS_READ
    return QUESTIONS_ANSWER if path.rstrip("/").endswith("/answer") else RUNS_WRITE
