"""Webhooks: endpoints outside that are told when runs end, questions open, and steps are in doubt."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request
from pydantic import Field
from starlette.responses import Response

from perdure.server.asked import Body, Engine
from perdure.server.bodies import StrictRoute
from perdure.server.responses import Json
from perdure.server.told import webhooks as told
from perdure.server.told.errors import answers, refusals
from perdure.server.webhooks.dispatcher import Webhooks, view
from perdure.server.webhooks.endpoints import (
    Changes,
    Endpoint,
    checked_events,
    checked_secret,
    checked_url,
    checked_workflows,
)
from perdure.server.webhooks.messages import TYPES

MOST_KEPT_S: Final = 30 * 86_400.0
"""How long a secret that was replaced may sign, at most."""
EVENTS: Final = f"types of messages, none are all: {', '.join(TYPES)}"

router = APIRouter(tags=["webhooks"], prefix="/webhooks", route_class=StrictRoute)


class WebhookBody(Body):
    """A new endpoint."""

    url: str = Field(description="https, or http on this machine; without credentials", max_length=2000)
    events: list[str] = Field(default_factory=list, max_length=len(TYPES), description=EVENTS)
    workflows: list[str] = Field(default_factory=list, max_length=1000, description="names; none are all")
    secret: str | None = Field(default=None, description="'whsec_' and Base64; one is made if omitted", max_length=200)


class WebhookChange(Body):
    """What is to become of an endpoint; what is omitted stays."""

    url: str | None = Field(default=None, max_length=2000)
    events: list[str] | None = Field(default=None, max_length=len(TYPES), description=EVENTS)
    workflows: list[str] | None = Field(default=None, max_length=1000)
    enabled: bool | None = Field(default=None, description="true also sends at once all that is pending")


class RotateBody(Body):
    """Another secret."""

    secret: str | None = Field(default=None, description="'whsec_' and Base64; one is made if omitted", max_length=200)
    keep_s: float | None = Field(
        default=None, ge=0, le=MOST_KEPT_S, description="seconds for which the secret before it signs, too; 86400"
    )


def webhooks_of(request: Request) -> Webhooks:
    """The service's webhooks."""
    webhooks: Webhooks = request.app.state.webhooks
    return webhooks


Hooks = Annotated[Webhooks, Depends(webhooks_of)]
WebhookId = Annotated[str, Path(max_length=1000)]


@router.post("", status_code=201, responses=answers(told.WebhookWithSecret, 409, status=201))
async def add_webhook(body: WebhookBody, runtime: Engine, hooks: Hooks) -> Json:
    """Make an endpoint. It is told of all that is committed after this answers. The secret is shown here only."""
    secret = checked_secret(body.secret)
    made = await hooks.add(
        checked_url(body.url),
        events=checked_events(body.events),
        workflows=checked_workflows(body.workflows),
        secret=secret,
    )
    shown = await _shown(made, runtime, hooks) | {"secret": secret}
    return Json(shown, 201, {"location": f"/webhooks/{made.id}"})


@router.get("", responses=answers(told.WebhooksShown))
async def list_webhooks(runtime: Engine, hooks: Hooks) -> Json:
    """All endpoints, with how the delivery to them stands."""
    return Json({"webhooks": [await _shown(one, runtime, hooks) for one in hooks.endpoints()]})


@router.get("/{webhook_id}", responses=answers(told.WebhookShown, 404))
async def show_webhook(webhook_id: WebhookId, runtime: Engine, hooks: Hooks) -> Json:
    """An endpoint, with how the delivery to it stands."""
    return Json(await _shown(hooks.endpoint(webhook_id), runtime, hooks))


@router.patch("/{webhook_id}", responses=answers(told.WebhookShown, 404))
async def change_webhook(webhook_id: WebhookId, body: WebhookChange, runtime: Engine, hooks: Hooks) -> Json:
    """Change an endpoint, disable it, or enable it again: it goes on where it stood."""
    changes = Changes(
        checked_url(body.url) if body.url is not None else None,
        checked_events(body.events) if body.events is not None else None,
        checked_workflows(body.workflows) if body.workflows is not None else None,
        body.enabled,
    )
    return Json(await _shown(await hooks.change(webhook_id, changes), runtime, hooks))


@router.post("/{webhook_id}/rotate", responses=answers(told.WebhookWithSecret, 404))
async def rotate_secret(webhook_id: WebhookId, runtime: Engine, hooks: Hooks, body: RotateBody | None = None) -> Json:
    """Sign with another secret; the one before it signs, too, for a while. The new one is shown here only."""
    body = body or RotateBody()
    secret = checked_secret(body.secret)
    changed = await hooks.rotate(webhook_id, secret, keep_s=body.keep_s)
    return Json(await _shown(changed, runtime, hooks) | {"secret": secret})


@router.delete("/{webhook_id}", status_code=204, responses=refusals(404))
async def remove_webhook(webhook_id: WebhookId, hooks: Hooks) -> Response:
    """Send nothing to an endpoint any more; what is pending for it is forgotten."""
    await hooks.remove(webhook_id)
    return Response(status_code=204)


async def _shown(endpoint: Endpoint, runtime: Engine, hooks: Webhooks) -> dict[str, Any]:
    end = await runtime.store.feed_position()
    return view(endpoint, hooks.outbox(endpoint), end, time.time_ns() // 1_000_000)
