"""`Client`: the service as a program uses it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from perdure.client.address import read_address
from perdure.client.commanding import Commanding
from perdure.client.operating import Operating
from perdure.client.pipelines import Pipelines
from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import ClientExtraMissingError


class Client(Commanding, Operating, Pipelines):
    """A client of the service.

    ```python
    async with Client("http://127.0.0.1:8181", token="pd_…") as client:
        run = await client.start("article", {"topic": "tides"})
        print(await client.result(run.run_id, timeout="1h"))
    ```

    A request whose answer was lost, or to which the service says that it has no time, is sent again after a while: a
    command goes under an idempotency key, by which the service recognises it.

    Args:
        url: of the service; the one that it prints at its start is taken as it is, with the token behind its `#`.
        token: of an API key.
        timeout: for how long the service may be silent, before and within an answer.
        patience: for how long a request is sent again, or a stream opened again, after the first failure.
        heartbeat: a stream of events that is silent for longer is taken for lost; the service sends something every
            15 s.

    Raises:
        InputError: the URL, the token or a duration cannot be used.
        ClientExtraMissingError: the extra `client` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: Duration = "60s",
        patience: Duration = "30s",
        heartbeat: Duration = "45s",
    ) -> None:
        address = read_address(url, token)
        try:
            from perdure.client.transport import Transport
        except ModuleNotFoundError as error:
            if error.name != "httpx2":
                raise
            raise ClientExtraMissingError("the client needs the package httpx2") from error
        self._transport = Transport(
            address,
            timeout_s=parse_duration(timeout, name="timeout"),
            patience_s=parse_duration(patience, name="patience"),
            heartbeat_s=parse_duration(heartbeat, name="heartbeat"),
        )

    def __repr__(self) -> str:
        return f"<client of {self.url}>"

    @property
    def url(self) -> str:
        """Where the service is; no secret is in it."""
        return self._transport.url

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; iterators over events end with `ClientClosedError`."""
        await self._transport.close()
