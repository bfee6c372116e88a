"""A webhook that was received, or its secret, is not what it should be."""

from __future__ import annotations

from perdure.core.errors.input import InputError
from perdure.core.errors.store import StoreError


class WebhookError(InputError):
    """Base of what is wrong with a webhook that was received; nothing in it can be trusted."""

    code = "webhook_refused"


class WebhookSecretError(WebhookError):
    """A secret for webhooks is none."""

    code = "webhook_secret"
    default_hint = "it is 'whsec_' and the Base64 of 24 to 64 random bytes"


class WebhookSignatureError(WebhookError):
    """No signature of the webhook was made with a known secret: it comes from somebody else, or was changed."""

    code = "webhook_signature"
    default_hint = "check the secret, and that the body is verified as the bytes that came, before it is parsed"


class WebhookTimeError(WebhookError):
    """The webhook was sent too long ago, or in the future: it may be a replay."""

    code = "webhook_time"
    default_hint = "check this machine's clock"


class WebhooksUnusableError(StoreError):
    """The file of the endpoints cannot be read or written; the store itself is sound."""

    code = "webhooks_unusable"
    default_hint = "see that the data directory can be written, and that webhooks.json is whole and for its owner alone"
