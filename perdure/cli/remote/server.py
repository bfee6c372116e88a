"""The service behind which a command's runs are: where it is, with which token it is asked, and how long."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.core.errors import InputError

if TYPE_CHECKING:
    from perdure.cli.remote.runtime import RemoteRuntime
    from perdure.client import Client

TOKEN_VARIABLE: Final = "PERDURE_TOKEN"
MOST_TOKEN_BYTES: Final = 10_000
PATIENCE_S: Final = 5.0
"""How long a command asks again where nobody answers."""
STAYING_S: Final = 120.0
"""How long a command that stays with a run asks again: the service may be started anew meanwhile."""


@dataclass(frozen=True, slots=True)
class Server:
    """A service as the command line was told of it.

    Args:
        url: of the service; no secret is in it.
        token: of an API key.
        token_file: where the token was read, if `--token-file` was given.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None

    @classmethod
    def of(cls, address: str, token_file: str | None = None) -> Server:
        """The service at an address, with the token that stands behind the `#` of it, in the file, or in the
        environment.

        Raises:
            InputError: the address is no URL of a service, or there is no usable token where one was said to be.
        """
        from perdure.client.address import read_address

        found = read_address(address, None if token_file is None else _token_in(token_file))
        if found.token is None:
            found = read_address(address, os.environ.get(TOKEN_VARIABLE) or None)
        return cls(found.url, found.token, token_file)

    def client(self, patience_s: float = PATIENCE_S) -> Client:
        """A client of it, not opened yet.

        Args:
            patience_s: how long it asks again where nobody answers.

        Raises:
            ClientExtraMissingError: the extra `client` is not installed.
        """
        from perdure.client import Client

        return Client(self.url, token=self.token, patience=patience_s)

    @asynccontextmanager
    async def runtime(self, *, staying: bool = False) -> AsyncIterator[RemoteRuntime]:
        """A runtime whose runs are behind the service.

        Args:
            staying: for a command that stays with a run: once the service has answered, it may be away for a while.

        Raises:
            ServiceError: the service cannot be asked.
        """
        from perdure.cli.remote.runtime import RemoteRuntime

        if staying:
            async with self.client() as first:
                await first.version()
        async with self.client(STAYING_S if staying else PATIENCE_S) as client:
            yield RemoteRuntime(client)


def _token_in(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            token = opened.read(MOST_TOKEN_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"--token-file {file} cannot be read: {what}", field="token-file") from error
    if not token:
        raise InputError(f"--token-file {file} holds no token", field="token-file")
    return token
