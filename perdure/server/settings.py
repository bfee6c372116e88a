"""What an operator may set on the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from perdure.engine.runtime import Runtime
from perdure.server.admission.keys import KeyRing
from perdure.server.admission.rates import Rate
from perdure.server.pipelines import PipelineSettings
from perdure.server.webhooks.settings import WebhookSettings

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
MAX_BODY_BYTES: Final = 1_000_000
MAX_JSON_DEPTH: Final = 64
HEARTBEAT_S: Final = 15.0
HEAD_TIMEOUT_S: Final = 10.0
BODY_TIMEOUT_S: Final = 60.0


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
        rate: how many requests each key may send that has no rate of its own; as many as it likes if omitted.
        head_timeout_s: how long a connection may take to send the head of a request, also before its first.
        body_timeout_s: how long a request may take to send its body.
        heartbeat_s: seconds after which a quiet stream gets a comment that keeps the line alive.
        webhooks: how messages to endpoints outside are sent.
    """

    keys: KeyRing | None = None
    hosts: tuple[str, ...] = LOOPBACK
    origins: tuple[str, ...] = ()
    max_body_bytes: int = MAX_BODY_BYTES
    max_json_depth: int = MAX_JSON_DEPTH
    pipelines: PipelineSettings = field(default_factory=PipelineSettings)
    rate: Rate | None = None
    head_timeout_s: float = HEAD_TIMEOUT_S
    body_timeout_s: float = BODY_TIMEOUT_S
    heartbeat_s: float = HEARTBEAT_S
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)


def settings_for(runtime: Runtime) -> Settings:
    """What holds where nothing else was said: a token is asked for, see `keys_for`."""
    return Settings(keys_for(runtime))


def keys_for(runtime: Runtime) -> KeyRing:
    """The keys of the service over a store.

    They lie in a folder beside the store's file, named as that is, with `.server` behind it. For a store that is no
    file they are new at each start.

    Raises:
        InputError: they cannot be read or written, or others than their owner may read the first token.
    """
    directory = directory_of(runtime)
    return KeyRing.open(directory) if directory is not None else KeyRing.fresh()


def directory_of(runtime: Runtime) -> Path | None:
    """The data directory of the service over a store; `None` for a store that is no file."""
    path: object = getattr(runtime.store, "path", None)
    return data_directory(path) if isinstance(path, str) else None


def data_directory(store_path: str) -> Path:
    """Where a service keeps what is its own and no run's, beside the file of its store."""
    return Path(f"{store_path}.server")
