"""What an operator may set on webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCHEDULE_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""How long after each failed attempt the next one is made, as the Standard Webhooks specification recommends."""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """What an operator may set on webhooks.

    Args:
        schedule_s: how long after each failed attempt the next one is made; one attempt more than it has entries.
        jitter: by what part of itself each of these is lengthened at most, at random.
        timeout_s: how long an endpoint may take to answer.
        at_once: how many messages are sent to one endpoint at the same time.
        most_pending: messages of one endpoint that were not accepted yet; with more the feed is not read on for it.
        most_endpoints: of a service.
        rotation_s: how long a secret that was replaced still signs.
        notice_s: how often the service looks what another process changed.
        save_s: the least time between two writes of an endpoint's place.
        drain_s: how long messages in flight may take when the service stops; the rest is sent after its next start.
    """

    schedule_s: tuple[float, ...] = SCHEDULE_S
    jitter: float = 0.2
    timeout_s: float = 15.0
    at_once: int = 8
    most_pending: int = 1000
    most_endpoints: int = 100
    rotation_s: float = 86_400.0
    notice_s: float = 1.0
    save_s: float = 0.2
    drain_s: float = 3.0
