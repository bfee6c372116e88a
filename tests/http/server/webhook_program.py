"""A service in a process of its own: `python -m tests.http.server.webhook_program STORE SETTINGS`.

SETTINGS is JSON for `WebhookSettings`. It prints its start-up URL when it serves, and ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from perdure import Runtime
from perdure.server import Settings, serve
from perdure.server.settings import keys_for
from perdure.server.webhooks.settings import WebhookSettings
from perdure.store.sqlite import SQLiteStore
from tests.http.server.served import WORKFLOWS


async def main(path: str, given: dict[str, Any]) -> None:
    async with Runtime(SQLiteStore(Path(path), durability="process"), workflows=WORKFLOWS) as runtime:
        settings = Settings(keys_for(runtime), webhooks=WebhookSettings(**given))
        await serve(runtime, settings, port=0, ready=lambda url: print(url, flush=True))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
