"""`Webhooks`: the endpoints of a service, and the deliveries to them.

Several processes may serve one store. Each may change endpoints; the one that holds the claim delivers, and another
takes over when it is gone. Stores that are no file have one process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from perdure.core.errors import PerdureError, StateError, WebhooksUnusableError
from perdure.engine.runtime import Runtime
from perdure.server.private_files import Claim
from perdure.server.webhooks.delivery import Counts, Delivery, Surroundings
from perdure.server.webhooks.endpoints import Changes, Endpoint, Endpoints, SigningSecret, found_in, new_id
from perdure.server.webhooks.outbox import Outbox
from perdure.server.webhooks.reading import Reading
from perdure.server.webhooks.sender import new_transport
from perdure.server.webhooks.settings import WebhookSettings

CLAIM: Final = "webhooks.claim"
MOST_SECRETS: Final = 5

logger = logging.getLogger("perdure.server.webhooks")


class Webhooks:
    """See the module.

    Args:
        runtime: open while it is started.
        settings: see `WebhookSettings`.
        directory: where endpoints and their places are kept; `None` keeps them in memory.
        now_ms: the wall clock, in milliseconds since 1970.
    """

    def __init__(
        self,
        runtime: Runtime,
        settings: WebhookSettings,
        directory: Path | None,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._runtime = runtime
        self._settings = settings
        self._directory = directory
        self._now_ms = now_ms
        self._endpoints = Endpoints(directory)
        self._claim = Claim(directory / CLAIM) if directory is not None else None
        self._changing = asyncio.Lock()
        self._kicked = asyncio.Event()
        self._closing = False
        self._deliveries: dict[str, Delivery] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._to_disable: dict[str, str] = {}
        self._counts = Counts()
        self._around: Surroundings | None = None
        self._task: asyncio.Task[None] | None = None
        self._trouble = ""

    # --- its life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to deliver.

        Raises:
            WebhooksUnusableError: what is kept cannot be read.
        """
        self._endpoints.all()
        self._closing = False
        self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """Stop; messages in flight may end within their time."""
        self._closing = True
        self._kicked.set()
        if self._task is not None:
            await self._task
        drain_s = self._settings.drain_s
        await asyncio.gather(*(one.close(drain_s=drain_s) for one in self._deliveries.values()))
        self._deliveries.clear()
        if self._around is not None:
            await self._around.transport.aclose()
            self._around = None
        if self._claim is not None:
            self._claim.give_back()

    # --- endpoints ----------------------------------------------------------------------------------------------------

    def endpoints(self) -> list[Endpoint]:
        """All, in the order in which they were made; raises `WebhooksUnusableError` if they cannot be read."""
        return list(self._endpoints.all().values())

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """One of them; raises `NotFoundError` if there is no such endpoint."""
        return self._endpoints.get(endpoint_id)

    async def add(
        self, url: str, *, events: tuple[str, ...] = (), workflows: tuple[str, ...] = (), secret: str
    ) -> Endpoint:
        """Make an endpoint that is told of all that is committed from now on.

        Args:
            url, events, workflows, secret: checked.

        Raises:
            StateError: there are as many as there may be.
            WebhooksUnusableError: it cannot be kept.
        """
        position = await self._runtime.store.feed_position()
        made = Endpoint(new_id(), url, events, workflows, (SigningSecret(secret),), self._now_ms(), position)

        def edit(known: dict[str, Endpoint]) -> None:
            if len(known) >= self._settings.most_endpoints:
                raise StateError(f"there are {len(known)} webhooks already", hint="remove one that is not used")
            known[made.id] = made

        await self._change(edit)
        return made

    async def change(self, endpoint_id: str, changes: Changes) -> Endpoint:
        """Change an endpoint. One that is enabled again goes on where it stood, and is sent all that is pending.

        Raises:
            NotFoundError: there is no such endpoint.
            WebhooksUnusableError: it cannot be kept.
        """
        return await self._replace(endpoint_id, lambda one: changes.made_to(one, self._now_ms()))

    async def rotate(self, endpoint_id: str, secret: str, *, keep_s: float | None = None) -> Endpoint:
        """Sign with another secret; those before it sign, too, for a while.

        Args:
            secret: checked.
            keep_s: how long; that of the settings if omitted.

        Raises:
            NotFoundError, WebhooksUnusableError: see `change`.
        """
        keep_ms = round((self._settings.rotation_s if keep_s is None else keep_s) * 1000)

        def rotated(one: Endpoint) -> Endpoint:
            return one.signed_by(secret, self._now_ms(), keep_ms, MOST_SECRETS)

        return await self._replace(endpoint_id, rotated)

    async def remove(self, endpoint_id: str) -> None:
        """Send nothing to an endpoint any more, and forget it.

        Raises:
            NotFoundError, WebhooksUnusableError: see `change`.
        """

        def edit(known: dict[str, Endpoint]) -> None:
            found_in(known, endpoint_id)
            del known[endpoint_id]

        await self._change(edit)
        self._forget(endpoint_id)

    def outbox(self, endpoint: Endpoint) -> Outbox:
        """How the delivery to an endpoint stands; of another process's, as it was last written.

        Raises:
            WebhooksUnusableError: what is kept cannot be read.
        """
        known = self._outboxes.get(endpoint.id)
        return known if known is not None else self._kept(endpoint)

    def numbers(self) -> dict[str, int]:
        """Counts for operators: what this process delivered, and what is pending here."""
        pending = sum(len(one.outbox.pending) for one in self._deliveries.values())
        return {"endpoints": len(self._deliveries), "pending": pending} | asdict(self._counts)

    async def _replace(self, endpoint_id: str, changed: Callable[[Endpoint], Endpoint]) -> Endpoint:
        found: list[Endpoint] = []

        def edit(known: dict[str, Endpoint]) -> None:
            known[endpoint_id] = changed(found_in(known, endpoint_id))
            found.append(known[endpoint_id])

        await self._change(edit)
        return found[0]

    async def _change(self, edit: Callable[[dict[str, Endpoint]], None]) -> None:
        async with self._changing:
            await asyncio.to_thread(self._endpoints.change, edit)
        self._kicked.set()

    # --- deliveries ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        notice_s = self._settings.notice_s if self._directory is not None else None
        while not self._closing:
            self._kicked.clear()
            try:
                await self._reconcile()
                self._trouble = ""
            except (OSError, PerdureError) as error:
                if str(error) != self._trouble:  # once, not each time
                    logger.error("webhooks cannot be delivered now: %s", error)
                self._trouble = str(error)
            except Exception:
                logger.exception("webhooks cannot be delivered now")
            if not self._closing:
                with suppress(TimeoutError):
                    async with asyncio.timeout(notice_s):
                        await self._kicked.wait()

    async def _reconcile(self) -> None:
        """Deliver to those who are to be delivered to, if this process is the one that does."""
        await self._disable()
        wanted = self._endpoints.all()
        if not wanted and not self._deliveries:
            return
        if self._claim is not None and not self._claim.take():
            return
        for endpoint_id in [one for one in self._outboxes if one not in wanted]:
            delivery = self._deliveries.pop(endpoint_id, None)
            if delivery is not None:
                await delivery.close(drain_s=0, save=False)
            self._forget(endpoint_id)
        trouble: list[PerdureError] = []
        for endpoint in tuple(wanted.values()):
            try:
                await self._attend(endpoint)
            except PerdureError as error:  # of one of them; it harms no other
                trouble.append(error)
        if trouble:
            raise trouble[0]

    async def _attend(self, endpoint: Endpoint) -> None:
        """Bring the delivery to an endpoint into line with what it is now."""
        delivery = self._deliveries.get(endpoint.id)
        if endpoint.disabled is not None:
            if delivery is not None:
                del self._deliveries[endpoint.id]
                await delivery.close(drain_s=0)
        elif delivery is None:
            await self._begin(endpoint)
        elif delivery.endpoint != endpoint:
            delivery.becomes(endpoint)

    async def _disable(self) -> None:
        while self._to_disable:
            endpoint_id, reason = self._to_disable.popitem()

            def edit(known: dict[str, Endpoint], gone: str = endpoint_id, why: str = reason) -> None:
                if gone in known:
                    known[gone] = known[gone].stopped(why)

            logger.warning("webhook %s is disabled: %s", endpoint_id, reason)
            try:
                async with self._changing:
                    await asyncio.to_thread(self._endpoints.change, edit)
            except WebhooksUnusableError:
                self._to_disable.setdefault(endpoint_id, reason)
                raise

    async def _begin(self, endpoint: Endpoint) -> None:
        around = await self._surroundings()
        outbox = self._outboxes.get(endpoint.id) or self._kept(endpoint)
        newest = await around.reading.position()
        if outbox.cursor > newest:  # another store, or one whose newest events were taken back
            logger.warning("webhook %s stood behind the end of the feed; it goes on at the end", endpoint.id)
            outbox.cursor = newest
        self._outboxes[endpoint.id] = outbox
        delivery = Delivery(endpoint, outbox, self._path(endpoint.id), around)
        delivery.becomes(endpoint)
        self._deliveries[endpoint.id] = delivery

    async def _surroundings(self) -> Surroundings:
        if self._around is None:
            transport = await asyncio.to_thread(new_transport)
            self._around = Surroundings(
                Reading(self._runtime.store),
                self._runtime.hub,
                transport,
                self._settings,
                self._counts,
                self._now_ms,
                random.random,
                self._found_unwilling,
            )
        return self._around

    def _found_unwilling(self, endpoint_id: str, reason: str) -> None:
        self._to_disable[endpoint_id] = reason
        self._kicked.set()

    def _path(self, endpoint_id: str) -> Path | None:
        return self._directory / f"webhook-{endpoint_id}.json" if self._directory is not None else None

    def _kept(self, endpoint: Endpoint) -> Outbox:
        """What was written of an outbox; a new one where nothing was. In place of one that is damaged, all since the
        endpoint was made is sent again: nothing is lost, and the ids are the same."""
        path = self._path(endpoint.id)
        try:
            return Outbox.from_json(path.read_bytes()) if path is not None else Outbox(endpoint.position)
        except FileNotFoundError:
            return Outbox(endpoint.position)
        except (ValueError, TypeError, KeyError) as error:
            logger.error("webhook %s: its place is damaged, it begins anew: %s", endpoint.id, error)
            return Outbox(endpoint.position)
        except OSError as error:
            raise WebhooksUnusableError(f"{path} cannot be read: {error}", path=str(path)) from error

    def _forget(self, endpoint_id: str) -> None:
        if endpoint_id in self._deliveries:
            return  # it is forgotten when its delivery has ended
        self._outboxes.pop(endpoint_id, None)
        path = self._path(endpoint_id)
        if path is not None:
            path.unlink(missing_ok=True)


def view(endpoint: Endpoint, outbox: Outbox, end: int, now_ms: int) -> dict[str, Any]:
    """An endpoint as the service shows it: never with a secret.

    Args:
        outbox: its own.
        end: the newest position of the feed.
        now_ms: the wall clock, in milliseconds since 1970.
    """
    due = [outbox.due_ms(one, now_ms) for one in outbox.pending]
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": list(endpoint.events),
        "workflows": list(endpoint.workflows),
        "created_ms": endpoint.created_ms,
        "enabled": endpoint.disabled is None,
        "disabled": endpoint.disabled,
        "secrets": len(endpoint.signing(now_ms)),
        "delivery": {
            "cursor": outbox.cursor,
            "behind": max(end - outbox.cursor, 0),
            "pending": len(outbox.pending),
            "next_ms": max(min(due), now_ms) if due else None,
            "delivered": outbox.delivered,
            "failed": outbox.failed,
            "given_up": outbox.given_up,
            "last_delivered_ms": outbox.last_delivered_ms,
            "last_error": outbox.last_error,
        },
    }
