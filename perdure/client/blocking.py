"""`BlockingClient`: the client of programs that are not asynchronous. Its types stand in `blocking.pyi`."""

from __future__ import annotations

from perdure.client.client import Client
from perdure.client.portal import ClientPortal, blocking_methods


class BlockingClient:
    """The blocking face of `Client`: the same methods with the same arguments, without `await`.

    ```python
    with BlockingClient("http://127.0.0.1:8181", token="pd_…") as client:
        run = client.start("article", {"topic": "tides"})
        for event in client.events(run.run_id):
            print(event.seq, event.kind)
    ```

    Several threads may use one. See `Client` for the arguments.
    """

    def __init__(self, url, *, token=None, timeout="60s", patience="30s", heartbeat="45s"):
        self._portal = ClientPortal(Client(url, token=token, timeout=timeout, patience=patience, heartbeat=heartbeat))

    def __repr__(self):
        return f"<blocking client of {self.url}>"

    @property
    def url(self):
        """Where the service is; no secret is in it."""
        return self._portal.client.url

    def __enter__(self):
        self._portal.open()
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    def close(self):
        """Close all connections; what other threads wait for ends with `ClientClosedError`."""
        self._portal.close()


for _name, _method in blocking_methods().items():
    setattr(BlockingClient, _name, _method)
