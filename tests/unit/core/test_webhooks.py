"""Signatures of webhooks, by a vector that the libraries of the specification share, and by what may go wrong."""

from __future__ import annotations

import base64

import pytest

from perdure.core.errors import WebhookError, WebhookSecretError, WebhookSignatureError, WebhookTimeError
from perdure.core.webhooks import key_of, secret_of, signed_headers, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = secret_of(b"o" * 32)
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT_S = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"webhook-id": ID, "webhook-timestamp": str(AT_S), "webhook-signature": SIGNATURE}


def test_the_known_vector_is_signed_and_verified() -> None:
    assert signed_headers(ID, AT_S, BODY, [SECRET]) == HEADERS
    assert verify(HEADERS, BODY, SECRET, now_s=AT_S) == ID
    assert verify(HEADERS, BODY, SECRET.removeprefix("whsec_"), now_s=AT_S) == ID
    assert verify({name.title(): value for name, value in HEADERS.items()}, BODY, SECRET, now_s=AT_S) == ID


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": ID + "x"},
        {"webhook-timestamp": str(AT_S + 1)},
        {"webhook-signature": ""},
        {"webhook-signature": SIGNATURE.replace("g0h", "g0g")},
        {"webhook-signature": SIGNATURE.replace("v1,", "v1a,")},
        {"webhook-signature": SIGNATURE.replace("v1,", "")},
        {"webhook-signature": SIGNATURE.replace(",", "")},
        {"webhook-signature": SIGNATURE.removesuffix("=")},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,\u00e9\udcff"},
        {"webhook-id": ""},
    ],
)
def test_what_was_changed_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(WebhookSignatureError):
        verify(HEADERS | change, BODY, SECRET, now_s=AT_S)


@pytest.mark.parametrize("body", [b"", BODY + b" ", BODY.replace(b"2", b"3")])
def test_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookSignatureError):
        verify(HEADERS, body, SECRET, now_s=AT_S)


@pytest.mark.parametrize("name", list(HEADERS))
def test_a_header_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(WebhookSignatureError, match=name):
        verify({key: value for key, value in HEADERS.items() if key != name}, BODY, SECRET, now_s=AT_S)


def test_another_secret_does_not_verify_and_no_secret_neither() -> None:
    for secrets in ((OTHER,), ()):
        with pytest.raises(WebhookSignatureError):
            verify(HEADERS, BODY, *secrets, now_s=AT_S)


def test_during_a_rotation_receivers_with_either_secret_verify() -> None:
    headers = signed_headers(ID, AT_S, BODY, [OTHER, SECRET])
    assert headers["webhook-signature"].split()[1] == SIGNATURE
    for secrets in ((OTHER,), (SECRET,), (secret_of(b"x" * 24), SECRET)):
        assert verify(headers, BODY, *secrets, now_s=AT_S) == ID
    mixed = HEADERS | {"webhook-signature": f"v1,AAAA v2,BBBB {SIGNATURE} v1a,CCCC"}
    assert verify(mixed, BODY, SECRET, now_s=AT_S) == ID


@pytest.mark.parametrize(("late_s", "good"), [(0, True), (300, True), (-300, True), (300.5, False), (-300.5, False)])
def test_outside_the_replay_window_it_is_refused(late_s: float, good: bool) -> None:
    if good:
        assert verify(HEADERS, BODY, SECRET, now_s=AT_S + late_s) == ID
    else:
        with pytest.raises(WebhookTimeError):
            verify(HEADERS, BODY, SECRET, now_s=AT_S + late_s)


def test_the_window_can_be_set() -> None:
    assert verify(HEADERS, BODY, SECRET, now_s=AT_S + 3000, tolerance_s=3000) == ID
    with pytest.raises(WebhookTimeError):
        verify(HEADERS, BODY, SECRET, now_s=AT_S + 2, tolerance_s=1)


@pytest.mark.parametrize("timestamp", ["now", "-1", "1.5", "1e9", "+1614265330", " 1614265330", "٣", "9" * 16])
def test_a_time_that_is_none_is_refused(timestamp: str) -> None:
    with pytest.raises(WebhookError):
        verify(HEADERS | {"webhook-timestamp": timestamp}, BODY, SECRET, now_s=AT_S)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_?", "whsec_" + "é" * 40, secret_of(b"x" * 23), secret_of(b"x" * 65), "whsec_abc"]
)
def test_a_secret_that_is_none_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(WebhookSecretError) as refused:
        verify(HEADERS, BODY, secret, now_s=AT_S)
    assert len(secret) < 8 or secret not in str(refused.value.to_dict())


def test_secrets_are_read_as_they_are_written() -> None:
    for size in (24, 32, 64):
        assert key_of(secret_of(bytes(range(size)))) == bytes(range(size))
    assert key_of(base64.b64encode(b"k" * 24).decode()) == b"k" * 24


def test_an_id_with_a_full_stop_or_nothing_to_sign_with_is_refused() -> None:
    with pytest.raises(ValueError, match="full stop"):
        signed_headers("a.b", AT_S, BODY, [SECRET])
    with pytest.raises(WebhookSecretError):
        signed_headers(ID, AT_S, BODY, [])
