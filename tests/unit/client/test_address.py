"""Addresses of a service: what the service prints is taken as it is, and no secret is ever shown."""

from __future__ import annotations

import pytest

from perdure.client import Client
from perdure.client.address import read_address
from perdure.core.errors import InputError

CANARY = "pd_canary-47"


@pytest.mark.parametrize(
    ("url", "token", "expected"),
    [
        ("http://127.0.0.1:8181", None, ("http://127.0.0.1:8181", None)),
        ("http://127.0.0.1:8181/", "pd_a", ("http://127.0.0.1:8181", "pd_a")),
        ("http://127.0.0.1:8181/#token=pd_a", None, ("http://127.0.0.1:8181", "pd_a")),
        ("http://127.0.0.1:8181/#token=pd_a", "pd_a", ("http://127.0.0.1:8181", "pd_a")),
        (" https://runs.example/team/#token=pd_a-_9\n", None, ("https://runs.example/team", "pd_a-_9")),
        ("http://[::1]:8181/", None, ("http://[::1]:8181", None)),
        ("http://localhost/#other=1", None, ("http://localhost", None)),
    ],
)
def test_an_address_is_read(url: str, token: str | None, expected: tuple[str, str | None]) -> None:
    address = read_address(url, token)
    assert (address.url, address.token) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8181",
        "ftp://localhost",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://a b/",
        "http://host/?x=1",
        f"http://ada:{CANARY}@host/",
        f"http://host/#token={CANARY}&token=other",
        f"http://host/#token={CANARY}%0D%0Ax",
        "http://[::1",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Client(url)
    assert CANARY not in str(caught.value.to_dict())


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "ü", "other"])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(InputError) as caught:
        read_address(f"http://host/#token={CANARY}", token)
    assert CANARY not in str(caught.value.to_dict())


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "ü"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(InputError):
        read_address("http://host", token)


def test_no_repr_shows_the_token() -> None:
    client = Client(f"http://host/#token={CANARY}")
    shown = [repr(client), str(client), client.url, repr(vars(client)), repr(read_address("http://host", CANARY))]
    assert [text for text in shown if CANARY in text] == []
