"""Delivery to one endpoint: reads the feed into its outbox, sends what is due, and keeps its place.

The place may be written a little late, never early: a message leaves the outbox only when it was accepted, so a kill at
any instant repeats messages, with the same ids, and loses none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx2

from perdure.core.errors import CorruptRecordError, StoreError
from perdure.engine.hub import Hub
from perdure.server.private_files import replace_file
from perdure.server.webhooks.endpoints import Endpoint
from perdure.server.webhooks.messages import body_of, message_id
from perdure.server.webhooks.outbox import Answer, Outbox, Pending
from perdure.server.webhooks.reading import Reading
from perdure.server.webhooks.sender import send
from perdure.server.webhooks.settings import WebhookSettings

AGAIN_S: Final = 1.0
"""After what time something is tried again that met a fault of this machine."""
LOOK_S: Final = 60.0
"""How often it is seen what is due, at least: a clock that was put right, or a machine that slept, tells nobody."""
QUIET_SAVE_S: Final = 5.0
"""How late the place of an endpoint is written at most, when no message was sent to it."""

logger = logging.getLogger("perdure.server.webhooks")


@dataclass(slots=True)
class Counts:
    """What this process has sent: messages that were accepted, attempts that failed, messages that were given up."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What deliveries share.

    Args:
        reading: of the store.
        hub: tells that runs have grown.
        transport: for all requests.
        settings: see `WebhookSettings`.
        counts: of this process.
        now_ms: the wall clock, in milliseconds since 1970.
        random: a number from 0 up to 1.
        disable: called with an endpoint's id and why nothing more may be sent to it.
    """

    reading: Reading
    hub: Hub
    transport: httpx2.AsyncHTTPTransport
    settings: WebhookSettings
    counts: Counts
    now_ms: Callable[[], int]
    random: Callable[[], float]
    disable: Callable[[str, str], None]


class Delivery:
    """See the module.

    Args:
        endpoint: to whom.
        outbox: its own; nobody else changes it.
        path: where the outbox is kept; `None` keeps it in memory.
        around: what deliveries share.
    """

    def __init__(self, endpoint: Endpoint, outbox: Outbox, path: Path | None, around: Surroundings) -> None:
        self.endpoint = endpoint
        self.outbox = outbox
        self._path = path
        self._around = around
        self._changed = asyncio.Event()
        self._unsaved = asyncio.Event()
        self._closing = asyncio.Event()
        self._sending: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._stopped = False
        self._saved = b""
        self._trouble = ""
        self._tasks = [asyncio.ensure_future(self._deliver()), asyncio.ensure_future(self._keep())]

    def becomes(self, endpoint: Endpoint) -> None:
        """The endpoint was changed, or is asked for again."""
        self.endpoint = endpoint
        if endpoint.enabled_ms > self.outbox.released_ms:
            self.outbox.release(endpoint.enabled_ms)
            self._unsaved.set()
        self._changed.set()

    async def close(self, *, drain_s: float, save: bool = True) -> None:
        """Send nothing more; what is in flight may end within a time, and is sent again later if it does not.

        Args:
            drain_s: this time.
            save: keep the place.
        """
        delivering, keeping = self._tasks
        delivering.cancel()
        with suppress(asyncio.CancelledError):
            await delivering
        if self._sending and drain_s:
            await asyncio.wait(self._sending.values(), timeout=drain_s)
        for task in tuple(self._sending.values()):
            task.cancel()
        await asyncio.gather(*self._sending.values(), return_exceptions=True)
        self._closing.set()
        self._unsaved.set()
        await keeping
        if save:
            await self._save()

    # --- reading and sending ------------------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        with self._around.hub.watch(None) as grown:
            self._changed = grown
            while not self._stopped:
                grown.clear()
                try:
                    await self._read()
                    await _set_within(grown, self._send_due())
                    continue
                except StoreError as error:
                    logger.warning("webhook %s: the feed cannot be read: %s", self.endpoint.id, error)
                except Exception:
                    logger.exception("webhook %s: delivery failed, and goes on", self.endpoint.id)
                await asyncio.sleep(AGAIN_S)  # whatever comes meanwhile

    async def _read(self) -> None:
        """Take in what the feed holds, as long as there is room."""
        outbox = self.outbox
        while len(outbox.pending) < self._around.settings.most_pending:
            page = await self._around.reading.page(outbox.cursor)
            if page is None:
                return
            for one in page.notable:
                if self.endpoint.wants(one.type) and self.endpoint.tells_of(one.about.workflow):
                    outbox.take(Pending(one.run_id, one.seq, one.type), one.position)
                    self._unsaved.set()
            outbox.cursor = page.position
            await asyncio.sleep(0)  # one that is far behind leaves room for requests

    def _send_due(self) -> float | None:
        """Send what is due; gives the seconds until more is, if that is known."""
        now_ms = self._around.now_ms()
        ready, next_ms = self.outbox.plan(now_ms, self._sending)
        room = self._around.settings.at_once - len(self._sending)
        for message in ready[: max(room, 0)]:
            task = asyncio.ensure_future(self._attempt(message))
            self._sending[message.key] = task
            task.add_done_callback(partial(self._sent, message.key))
        return None if next_ms is None else min((next_ms - now_ms) / 1000, LOOK_S)

    def _sent(self, key: tuple[str, int], _: asyncio.Task[None]) -> None:
        del self._sending[key]
        self._changed.set()

    async def _attempt(self, message: Pending) -> None:
        around, outbox = self._around, self.outbox
        try:
            answer = await self._answer(message)
        except CorruptRecordError as error:
            logger.warning("webhook %s: a message cannot be made: %s", self.endpoint.id, error)
            answer = None
        except StoreError as error:
            logger.warning("webhook %s: a message cannot be made now: %s", self.endpoint.id, error)
            answer = Answer(None, "the store cannot be read")
        except Exception:
            logger.exception("webhook %s: a message was not sent", self.endpoint.id)
            answer = Answer(None, "internal error")
        if answer is None:
            outbox.give_up(message)
            around.counts.given_up += 1
        elif answer.error is None:
            outbox.accepted(message, around.now_ms())
            around.counts.delivered += 1
        else:
            self._failed(message, answer)
        self._unsaved.set()

    def _failed(self, message: Pending, answer: Answer) -> None:
        around, before = self._around, self.outbox.given_up
        around.counts.failed += 1
        logger.info("webhook %s: %s for %s %s", self.endpoint.id, answer.error, message.type, message.run_id)
        schedule_ms = [
            round(delay_s * 1000 * (1 + around.settings.jitter * around.random()))
            for delay_s in around.settings.schedule_s
        ]
        reason = self.outbox.refused(message, answer, schedule_ms, around.now_ms())
        around.counts.given_up += self.outbox.given_up - before
        if reason is not None and not self._stopped:
            self._stopped = True
            around.disable(self.endpoint.id, reason)

    async def _answer(self, message: Pending) -> Answer | None:
        """What becomes of an attempt; `None` for what can be told no more."""
        around = self._around
        event = await around.reading.event(message.run_id, message.seq)
        about = await around.reading.about(message.run_id)
        if event is None or about is None:
            return None
        now_ms = around.now_ms()
        return await send(
            around.transport,
            self.endpoint.url,
            message_id(event, message.type),
            body_of(event, message.type, about),
            self.endpoint.signing(now_ms),
            now_s=now_ms / 1000,
            timeout_s=around.settings.timeout_s,
        )

    # --- keeping the place --------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Write the outbox when it has changed, not too often; of a cursor that moved alone, once in a while."""
        while not self._closing.is_set():
            await _set_within(self._unsaved, QUIET_SAVE_S)
            self._unsaved.clear()
            saved = await self._save()
            if not saved:
                self._unsaved.set()
            await _set_within(self._closing, self._around.settings.save_s if saved else AGAIN_S)

    async def _save(self) -> bool:
        """Write the outbox if it has changed; whether what is written is what it is."""
        if self._path is None:
            return True
        data = self.outbox.to_json()
        if data == self._saved:
            return True
        try:
            await asyncio.to_thread(replace_file, self._path, data)
        except OSError as error:
            if str(error) != self._trouble:  # once, not each time: the log may lie on the same full disk
                logger.warning("webhook %s: its place cannot be written: %s", self.endpoint.id, error)
            self._trouble = str(error)
            return False
        self._saved, self._trouble = data, ""
        return True


async def _set_within(event: asyncio.Event, seconds: float | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
