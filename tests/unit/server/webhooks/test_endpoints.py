"""Endpoints as data: their URLs, what they want, and how they change."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from perdure.core.errors import InputError, NotFoundError
from perdure.server.webhooks.endpoints import Changes, Endpoint, Endpoints, SigningSecret, checked_secret, checked_url

URL = "https://hooks.example/in"


def an_endpoint(name: str = "wh_1") -> Endpoint:
    return Endpoint(name, URL, ("run.failed",), (), (SigningSecret("whsec_one"),), 1000, 7)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example",
        "//hooks.example/in",
        "https:///in",
        "ftp://hooks.example/in",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://hooks.example/in",
        "http://localhost.evil.example/in",
        "http://127.0.0.1@evil.example/in",
        "http://127.1/in",
        "http://169.254.169.254/latest",
        "https://canary:canary@hooks.example/in",
        "https://canary@hooks.example/in",
        "https://@hooks.example/in",
        "https://hooks.example/in#canary",
        "https://hooks.example:0/in",
        "https://hooks.example:99999/in",
        "https://hooks..example/in",
        "https://%41.example/in",
        "https://hooks.example\\@evil.example/",
        "https://hooks.example/in\r\nx-canary: 1",
        "https://hooks.example/a b",
        "https://[::1/in",
        "https://hööks.example/in",
        "https://hooks.example/" + "a" * 2000,
    ],
)
def test_a_url_that_is_none_for_messages_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError) as refused:
        checked_url(url)
    assert "canary" not in str(refused.value.to_dict())


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://10.0.0.7:8443/a?b=c%20d",
        "https://[2001:db8::1]/in",
        "http://localhost:9/in",
        "http://127.0.0.8:9/in",
        "http://[::1]:9/in",
        "https://hooks.example/who@where",
    ],
)
def test_a_url_for_messages_stays_as_it_is(url: str) -> None:
    assert checked_url(url) == url


def test_secrets_that_are_made_differ_and_are_long() -> None:
    made = {checked_secret(None) for _ in range(10)}
    assert len(made) == 10
    assert all(one.startswith("whsec_") and len(one) > 40 for one in made)


def test_a_secret_that_was_replaced_signs_until_its_time() -> None:
    once = an_endpoint().signed_by("whsec_two", 2000, 500, 5)
    assert once.signing(2499) == ["whsec_two", "whsec_one"]
    assert once.signing(2500) == ["whsec_two"]
    twice = once.signed_by("whsec_three", 2400, 10_000, 5)
    assert twice.signing(2450) == ["whsec_three", "whsec_two", "whsec_one"]
    assert twice.signing(2500) == ["whsec_three", "whsec_two"]  # the oldest one's time is not prolonged
    assert twice.signed_by("whsec_three", 2450, 0, 5).signing(2450) == ["whsec_three"]
    for number in range(10):
        twice = twice.signed_by(f"whsec_{number}", 2400, 10_000, 5)
    assert len(twice.secrets) == 5


def test_enabling_again_is_told_from_not_having_changed() -> None:
    stopped = an_endpoint().stopped("gone")
    assert stopped.stopped("asked").disabled == "gone"
    assert Changes(url="https://other.example/").made_to(stopped, 5000).disabled == "gone"
    enabled = Changes(enabled=True).made_to(stopped, 5000)
    assert (enabled.disabled, enabled.enabled_ms) == (None, 5000)
    assert Changes(enabled=True).made_to(enabled, 5000).enabled_ms == 5001


def test_what_one_process_changes_another_sees(tmp_path: Path) -> None:
    one, other = Endpoints(tmp_path / "data"), Endpoints(tmp_path / "data")
    assert other.all() == {}
    one.change(lambda known: known.update(wh_1=an_endpoint()))
    assert other.get("wh_1") == an_endpoint()
    other.change(lambda known: known.update(wh_2=an_endpoint("wh_2")))
    assert list(one.all()) == ["wh_1", "wh_2"]
    one.change(lambda known: known.pop("wh_1") and None)
    with pytest.raises(NotFoundError):
        other.get("wh_1")


def test_a_change_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path / "data")
    endpoints.change(lambda known: known.update(wh_1=an_endpoint()))

    def edit(known: dict[str, Endpoint]) -> None:
        del known["wh_1"]
        raise NotFoundError("there is no such thing")

    with pytest.raises(NotFoundError):
        endpoints.change(edit)
    assert list(endpoints.all()) == ["wh_1"]
    assert list(Endpoints(tmp_path / "data").all()) == ["wh_1"]


def test_changes_at_the_same_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def add(worker: int) -> None:
        endpoints = Endpoints(tmp_path / "data")
        start.wait()
        for number in range(10):
            name = f"wh_{worker}_{number}"
            endpoints.change(lambda known, name=name: known.update({name: an_endpoint(name)}))  # type: ignore[misc]

    threads = [threading.Thread(target=add, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Endpoints(tmp_path / "data").all()) == 40
