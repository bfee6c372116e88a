"""What an operator may set on the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from perdure.engine.runtime import Runtime
from perdure.server.keys import KeyRing
from perdure.server.pipelines import PipelineSettings

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
MAX_BODY_BYTES: Final = 1_000_000
MAX_JSON_DEPTH: Final = 64
HEARTBEAT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may set on the service.

    Args:
        keys: who may ask for what; `None` asks nobody who they are, which is for loopback alone.
        hosts: names under which the service may be asked for, without a port; any other `Host` is refused.
        origins: origins beside the service's own from which a browser may send what changes something.
        max_body_bytes: of a request.
        max_json_depth: how deep a request's JSON may be nested.
        pipelines: what pipelines that come over HTTP may do.
        heartbeat_s: seconds after which a quiet stream gets a comment that keeps the line alive.
    """

    keys: KeyRing | None = None
    hosts: tuple[str, ...] = LOOPBACK
    origins: tuple[str, ...] = ()
    max_body_bytes: int = MAX_BODY_BYTES
    max_json_depth: int = MAX_JSON_DEPTH
    pipelines: PipelineSettings = field(default_factory=PipelineSettings)
    heartbeat_s: float = HEARTBEAT_S


def settings_for(runtime: Runtime) -> Settings:
    """What holds where nothing else was said: a token is asked for.

    It lies in a folder beside the store's file, named as that is, with `.server` behind it. For a store that is no file
    it is a new one at each start.
    """
    path: object = getattr(runtime.store, "path", None)
    return Settings(KeyRing.open(Path(f"{path}.server")) if isinstance(path, str) else KeyRing.fresh())
