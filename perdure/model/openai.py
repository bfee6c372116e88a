"""A backend for every endpoint that speaks OpenAI's chat completions protocol, hosted or on a machine of one's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import SecretError
from perdure.core.secrets import Redactor, Secret
from perdure.model.completions import OutputLimit, request_body
from perdure.model.endpoint import HeaderValues, check_base_url, check_headers, revealed
from perdure.model.errors import ModelConfigurationError, ModelExtraMissingError, ModelTimeoutError
from perdure.model.port import OnText
from perdure.model.reply import ModelReply
from perdure.model.request import ModelRequest

if TYPE_CHECKING:
    import ssl

    from perdure.model.exchange import Exchange


class OpenAIBackend:
    """Asks `POST {base_url}/chat/completions`. Redirects are not followed; retries are for the step that asks.

    Args:
        base_url: for example `https://api.openai.com/v1` or `http://localhost:11434/v1`.
        api_key: a reference to the key, sent as a bearer token; looked up anew for each request, inside its step.
        model: the model for requests that name none.
        headers: more headers; a secret one as a `Secret`.
        stream: whether replies come in pieces.
        timeout: for a whole request that names no `timeout_s`.
        connect_timeout: for making the connection.
        idle_timeout: the longest silence within a streamed reply.
        output_limit: what the endpoint calls the longest answer; older servers know `max_tokens` alone.
        name: what errors and reports call this backend.
        now_s: the time in seconds since 1970, for `Retry-After`.

    Raises:
        ModelConfigurationError: the URL or a header cannot be used.
        SecretError: `api_key` is no reference.
        InvalidDurationError: a timeout is no duration.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: Secret | None = None,
        model: str | None = None,
        headers: HeaderValues | None = None,
        stream: bool = True,
        timeout: Duration = "10m",
        connect_timeout: Duration = "10s",
        idle_timeout: Duration = "5m",
        output_limit: OutputLimit = "max_completion_tokens",
        name: str = "openai",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        if api_key is not None and not isinstance(api_key, Secret):
            raise SecretError("api_key is a reference, never the key", hint="pass Secret('env:NAME')")
        self.base_url = check_base_url(base_url)
        self.api_key = api_key
        self.model = model
        self.name = name
        self._headers = check_headers(headers or {})
        if api_key is not None and "authorization" in self._headers:
            raise ModelConfigurationError("the header 'authorization' is given twice: pass api_key or the header")
        self._stream = stream
        self._timeout_s = parse_duration(timeout, name="timeout")
        self._connect_timeout_s = parse_duration(connect_timeout, name="connect_timeout")
        self._idle_timeout_s = parse_duration(idle_timeout, name="idle_timeout")
        self._output_limit: OutputLimit = output_limit
        self._now_s = now_s
        self._tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"<OpenAIBackend {self.name} {self.base_url}>"

    async def complete(self, request: ModelRequest, *, on_text: OnText | None = None) -> ModelReply:
        """See `Backend.complete`.

        Raises:
            ModelExtraMissingError: the extra `perdure[model]` is not installed.
            ModelConfigurationError: neither the request nor the backend names a model.
            SecretError: the key cannot be looked up.
            ModelError: there is no answer; which class says why.
        """
        model = request.model or self.model
        if not model:
            hint = "name one in the request, in the backend, or in PERDURE_MODEL"
            raise ModelConfigurationError(f"no model is named for {self.base_url}", hint=hint)
        body = request_body(request, model, stream=self._stream, output_limit=self._output_limit)
        timeout_s = self._timeout_s if request.timeout_s is None else request.timeout_s
        exchange = self._exchange(model, timeout_s, on_text)
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                return await exchange.run(body)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise ModelTimeoutError(f"no reply within {timeout_s:g} s", endpoint=self.base_url) from error

    def _exchange(self, model: str, timeout_s: float, on_text: OnText | None) -> Exchange:
        try:
            import httpx2

            from perdure.model.exchange import Exchange
        except ModuleNotFoundError as error:
            if error.name != "httpx2":
                raise
            raise ModelExtraMissingError("model endpoints need the package httpx2, which is not installed") from error
        if self._tls is None:
            self._tls = httpx2.create_ssl_context()  # once: the certificates of the system take long to load
        redactor = Redactor()
        headers = revealed(self._headers, redactor)
        key = {} if self.api_key is None else revealed({"authorization": self.api_key}, redactor)
        headers |= {name: f"Bearer {value}" for name, value in key.items()}
        silence_s = min(self._idle_timeout_s, timeout_s) if self._stream else timeout_s
        timeout = httpx2.Timeout(silence_s, connect=min(self._connect_timeout_s, timeout_s))
        client = httpx2.AsyncClient(timeout=timeout, verify=self._tls, follow_redirects=False)
        return Exchange(client, self.base_url, headers, redactor, model, self._stream, on_text, self._now_s)
