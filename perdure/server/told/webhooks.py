"""What answers about webhooks hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from perdure.server.told.runs import Milliseconds


class LastError(TypedDict):
    """The last attempt that failed."""

    at_ms: Milliseconds
    run_id: str
    seq: int
    type: str
    status: Annotated[int | None, Field(description="of the HTTP answer, if there was one")]
    error: str


class DeliveryState(TypedDict):
    """How the delivery to an endpoint stands."""

    cursor: Annotated[int, Field(description="position of the feed up to which it was read")]
    behind: Annotated[int, Field(description="events that were not read yet")]
    pending: Annotated[int, Field(description="messages that were not accepted yet")]
    next_ms: Annotated[int | None, Field(description="when the next one is sent, in milliseconds since 1970")]
    delivered: int
    failed: Annotated[int, Field(description="attempts")]
    given_up: int
    last_delivered_ms: Annotated[int | None, Field(description="in milliseconds since 1970")]
    last_error: LastError | None


class WebhookShown(TypedDict):
    """An endpoint."""

    id: str
    url: str
    events: Annotated[list[str], Field(description="types of messages; none are all")]
    workflows: Annotated[list[str], Field(description="names; none are all")]
    created_ms: Milliseconds
    enabled: bool
    disabled: Annotated[Literal["gone", "exhausted", "asked"] | None, Field(description="why nothing is sent")]
    secrets: Annotated[int, Field(description="how many sign now")]
    delivery: DeliveryState


class WebhookWithSecret(WebhookShown):
    """An endpoint, and the secret that signs from now on; it is shown here only."""

    secret: str


class WebhooksShown(TypedDict):
    """All endpoints."""

    webhooks: list[WebhookShown]
