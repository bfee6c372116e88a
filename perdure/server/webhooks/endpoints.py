"""Endpoints: where messages go, what about, and with which secrets they are signed.

They lie in one file of the data directory, readable by its owner alone. Every process of the store reads it; a change
replaces it as a whole, under a lock.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson

from perdure.core.errors import InputError, NotFoundError, WebhooksUnusableError
from perdure.core.ids import check_name
from perdure.core.webhooks import SECRET_PREFIX, key_of, secret_of
from perdure.server.private_files import Version, locked, make_folder, read_file, replace_file, version_of
from perdure.server.webhooks.messages import TYPES

FILE: Final = "webhooks.json"
LOCK: Final = "webhooks.lock"
SECRET_BYTES: Final = 32
MOST_URL: Final = 2000
PLAIN: Final = re.compile(r"[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]+")
CREDENTIALS: Final = re.compile(r"[^/?#]*//[^/?#]*@")
HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*|[0-9a-f:.]*:[0-9a-f:.]*")


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret, and until when it signs: in milliseconds since 1970, or for good."""

    secret: str
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where messages go.

    Args:
        id: unique.
        url: as `checked_url` admits it.
        events: types of messages; none are all.
        workflows: of the runs that are told of; none are all.
        secrets: the newest first.
        created_ms: when it was made.
        position: of the feed at that time; what came before is not told.
        disabled: why nothing is sent now, while it keeps its place: `gone`, `exhausted`, or `asked` by somebody.
        enabled_ms: when somebody last asked to go on.
    """

    id: str
    url: str
    events: tuple[str, ...]
    workflows: tuple[str, ...]
    secrets: tuple[SigningSecret, ...]
    created_ms: int
    position: int
    disabled: str | None = None
    enabled_ms: int = 0

    def wants(self, type_: str) -> bool:
        """Whether it asks for messages of this type."""
        return not self.events or type_ in self.events

    def tells_of(self, workflow: str) -> bool:
        """Whether it asks for this workflow's runs."""
        return not self.workflows or workflow in self.workflows

    def signing(self, now_ms: int) -> list[str]:
        """The secrets that sign now."""
        return [one.secret for one in self.secrets if one.until_ms is None or now_ms < one.until_ms]

    def signed_by(self, secret: str, now_ms: int, keep_ms: int, most: int) -> Endpoint:
        """The endpoint with a new secret; those before it sign for `keep_ms` more, at most, and `most` are kept."""
        until_ms = now_ms + keep_ms
        before = (
            SigningSecret(one.secret, until_ms if one.until_ms is None else min(one.until_ms, until_ms))
            for one in self.secrets
            if one.secret != secret and (one.until_ms is None or now_ms < one.until_ms)
        )
        return replace(self, secrets=(SigningSecret(secret), *before)[:most])

    def stopped(self, reason: str) -> Endpoint:
        """The endpoint, disabled."""
        return replace(self, disabled=self.disabled or reason)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to become of an endpoint; `None` leaves it as it is.

    Args:
        url, events, workflows: checked.
        enabled: whether anything is sent to it.
    """

    url: str | None = None
    events: tuple[str, ...] | None = None
    workflows: tuple[str, ...] | None = None
    enabled: bool | None = None

    def made_to(self, endpoint: Endpoint, now_ms: int) -> Endpoint:
        """The endpoint, changed."""
        changed = replace(
            endpoint,
            url=endpoint.url if self.url is None else self.url,
            events=endpoint.events if self.events is None else self.events,
            workflows=endpoint.workflows if self.workflows is None else self.workflows,
        )
        if self.enabled:
            return replace(changed, disabled=None, enabled_ms=max(now_ms, endpoint.enabled_ms + 1))
        return changed if self.enabled is None else changed.stopped("asked")


class Endpoints:
    """The endpoints of a data directory.

    Args:
        directory: where their file lies, or will; `None` keeps them in memory.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._known: dict[str, Endpoint] = {}
        self._version: Version = None

    def all(self) -> Mapping[str, Endpoint]:
        """All, by id, in the order in which they were made; read again if the file was changed.

        Raises:
            WebhooksUnusableError: the file cannot be read, or others than its owner may read it.
        """
        if self._directory is not None:
            path = self._directory / FILE
            try:
                version = version_of(path)
                if version != self._version:
                    self._known = {one.id: one for one in _read(path)} if version is not None else {}
                    self._version = version
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise WebhooksUnusableError(
                    f"the webhooks in {path} cannot be read: {error}", path=str(path)
                ) from error
        return self._known

    def get(self, endpoint_id: str) -> Endpoint:
        """One of them.

        Raises:
            NotFoundError: there is no such endpoint.
            WebhooksUnusableError: see `all`.
        """
        return found_in(self.all(), endpoint_id)

    def change(self, edit: Callable[[dict[str, Endpoint]], None]) -> None:
        """Change them; durable when it returns.

        Args:
            edit: changes what it is given, by id; what it raises leaves all as it was.

        Raises:
            WebhooksUnusableError: see `all`; or the file cannot be written.
        """
        try:
            with self._locked():
                changed = dict(self.all())
                edit(changed)
                if self._directory is not None:
                    path = self._directory / FILE
                    replace_file(path, orjson.dumps([asdict(one) for one in changed.values()]))
                    self._version = version_of(path)
                self._known = changed
        except OSError as error:
            raise WebhooksUnusableError(
                f"the webhooks cannot be written: {error}", path=str(self._directory)
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._directory is None:
            yield
            return
        make_folder(self._directory)
        with locked(self._directory / LOCK):
            yield


def found_in(endpoints: Mapping[str, Endpoint], endpoint_id: str) -> Endpoint:
    """One of them; raises `NotFoundError` if there is no such endpoint."""
    found = endpoints.get(endpoint_id)
    if found is None:
        raise NotFoundError(f"there is no webhook {endpoint_id!r}", webhook=endpoint_id)
    return found


def checked_url(url: str) -> str:
    """A URL to which messages may go: `https`, or `http` on this machine; without credentials.

    Raises:
        InputError: it is none; it is not repeated, since it may hold what nobody shall see.
    """
    if len(url) > MOST_URL or not PLAIN.fullmatch(url):
        raise _bad_url(f"it holds characters that a URL does not, or more than {MOST_URL}")
    try:
        parts = httpx2.URL(url)  # what sends understands it the same way
    except (httpx2.InvalidURL, ValueError):
        raise _bad_url("it cannot be read") from None
    if CREDENTIALS.match(url):
        raise _bad_url("it holds credentials")
    port = 443 if parts.port is None else parts.port
    if parts.scheme not in ("http", "https") or not HOST.fullmatch(parts.host) or not 0 < port < 65_536:
        raise _bad_url("it names no http or https address")
    if parts.fragment:
        raise _bad_url("it holds a fragment")
    if parts.scheme == "http" and not _on_this_machine(parts.host):
        raise _bad_url("what goes to other machines is told by https alone")
    return url


def checked_events(events: Iterable[str]) -> tuple[str, ...]:
    """Types of messages; raises `InputError` for one that there is not."""
    wanted = tuple(dict.fromkeys(events))
    unknown = [one for one in wanted if one not in TYPES]
    if unknown:
        raise InputError(f"there is no event {unknown[0]!r}", hint=f"it is one of: {', '.join(TYPES)}", field="events")
    return wanted


def checked_workflows(workflows: Iterable[str]) -> tuple[str, ...]:
    """Names of workflows, loaded or not; raises `InputError` for what can be none."""
    return tuple(dict.fromkeys(check_name(one, field="workflows") for one in workflows))


def checked_secret(secret: str | None) -> str:
    """A secret with its prefix: the one that was given, or a new one.

    Raises:
        WebhookSecretError: it is none.
    """
    return secret_of(key_of(secret) if secret is not None else secrets.token_bytes(SECRET_BYTES))


def new_id() -> str:
    """An id for an endpoint."""
    return f"wh_{secrets.token_hex(10)}"


def _bad_url(problem: str) -> InputError:
    return InputError(f"messages cannot go to this url: {problem}", field="url")


def _on_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> list[Endpoint]:
    return [_endpoint_of(one) for one in orjson.loads(read_file(path))]


def _endpoint_of(tree: dict[str, Any]) -> Endpoint:
    kept = tuple(SigningSecret(**one) for one in tree["secrets"])
    if not all(one.secret.startswith(SECRET_PREFIX) for one in kept):
        raise ValueError("a secret is none")
    lists = {"events": tuple(tree["events"]), "workflows": tuple(tree["workflows"]), "secrets": kept}
    found = Endpoint(**(tree | lists))
    texts = (found.id, found.url, *found.events, *found.workflows)
    numbers = (found.created_ms, found.position, found.enabled_ms, *(one.until_ms or 0 for one in kept))
    if not all(isinstance(one, str) for one in texts) or not all(isinstance(one, int) for one in numbers):
        raise TypeError("an endpoint is none")
    return found
