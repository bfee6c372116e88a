"""Signing webhooks and verifying them, as the Standard Webhooks specification 1.0.0 says (www.standardwebhooks.com).

A webhook is an HTTP request with three headers: `webhook-id` names the message and stays the same however often it is
sent; `webhook-timestamp` says when this attempt was made, in seconds since 1970; `webhook-signature` holds a signature
for each secret that is good now. What is signed is `id.timestamp.body`, with HMAC-SHA256.

Receivers need this module alone:

```python
identity = verify(request.headers, request.body, SECRET, now_s=time.time())
```
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from perdure.core.errors import WebhookSecretError, WebhookSignatureError, WebhookTimeError

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
SECRET_PREFIX: Final = "whsec_"
LEAST_SECRET_BYTES: Final = 24
MOST_SECRET_BYTES: Final = 64
TOLERANCE_S: Final = 300.0
"""How far the time of a webhook may lie from the receiver's clock: within it a replay can only be told by the id."""

_VERSION: Final = "v1"
_MOST_DIGITS: Final = 15


def signed_headers(message_id: str, timestamp_s: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The headers of a webhook.

    Args:
        message_id: without a full stop, which parts what is signed.
        timestamp_s: when it is sent, in whole seconds since 1970.
        body: the exact bytes that are sent.
        secrets: those that are good now, the newest first; receivers need to know one of them.

    Raises:
        WebhookSecretError: one of them is none, or there is none.
        ValueError: the id holds a full stop.
    """
    if "." in message_id:
        raise ValueError(f"the id {message_id!r} holds a full stop")
    if not secrets:
        raise WebhookSecretError("there is no secret to sign with")
    signatures = (f"{_VERSION},{_signature(message_id, str(timestamp_s), body, one).decode()}" for one in secrets)
    return {ID: message_id, TIMESTAMP: str(timestamp_s), SIGNATURE: " ".join(signatures)}


def verify(
    headers: Mapping[str, str], body: bytes, *secrets: str, now_s: float, tolerance_s: float = TOLERANCE_S
) -> str:
    """Verify a webhook that was received. How long it takes says nothing about the signature.

    Args:
        headers: of the request, whatever the case of their names.
        body: the exact bytes that came, before anything parsed them.
        secrets: those that are known; one must have signed it.
        now_s: the time, in seconds since 1970.
        tolerance_s: how far its time may lie from `now_s`, on either side.

    Returns:
        Its id: the same for every attempt, so a repeat can be told by it.

    Raises:
        WebhookSignatureError: a header is missing, or no signature is by a known secret.
        WebhookTimeError: it is too old, or from the future.
        WebhookSecretError: a secret is none.
    """
    message_id, timestamp, given = (_header(headers, name) for name in (ID, TIMESTAMP, SIGNATURE))
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MOST_DIGITS):
        raise WebhookTimeError(f"the header {TIMESTAMP} is no number of seconds")
    expected = [_signature(message_id, timestamp, body, secret) for secret in secrets]
    signatures = [text for version, _, text in (one.partition(",") for one in given.split()) if version == _VERSION]
    found = [
        hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other) for one in signatures for other in expected
    ]
    if not any(found):
        raise WebhookSignatureError("no signature of the webhook is by a known secret")
    late_s = now_s - int(timestamp)
    if not abs(late_s) <= tolerance_s:
        when = f"{late_s:.0f} s ago" if late_s > 0 else f"{-late_s:.0f} s in the future"
        raise WebhookTimeError(f"the webhook was sent {when}; {tolerance_s:g} s are allowed")
    return message_id


def secret_of(key: bytes) -> str:
    """A secret in the form in which it is handed on: `whsec_` and its Base64."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def key_of(secret: str) -> bytes:
    """The bytes of a secret.

    Args:
        secret: with or without its `whsec_`.

    Raises:
        WebhookSecretError: it is none; the secret itself is not repeated.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise WebhookSecretError("the secret is no Base64") from None
    if not LEAST_SECRET_BYTES <= len(key) <= MOST_SECRET_BYTES:
        raise WebhookSecretError(f"the secret holds {len(key)} bytes")
    return key


def _signature(message_id: str, timestamp: str, body: bytes, secret: str) -> bytes:
    signed = b".".join((message_id.encode("utf-8", "surrogatepass"), timestamp.encode(), body))
    return base64.b64encode(hmac.digest(key_of(secret), signed, "sha256"))


def _header(headers: Mapping[str, str], name: str) -> str:
    found = headers.get(name)
    if found is None:
        found = next((value for key, value in headers.items() if key.lower() == name), None)
    if not found:
        raise WebhookSignatureError(f"the webhook has no header {name}")
    return found
