"""Any function as a model backend: a library's client, a model in this process, a stand-in for a test."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

from perdure.core.canonical import canonical
from perdure.core.errors import InputTypeError, PerdureError
from perdure.core.values import codec_for
from perdure.engine.threads import ThreadPool
from perdure.model.errors import ModelConfigurationError, ModelReplyError
from perdure.model.port import OnText
from perdure.model.reply import ModelReply
from perdure.model.request import ModelRequest

Answer = str | ModelReply | dict[str, Any]
Answering = Callable[[ModelRequest], Answer | Awaitable[Answer]]


class CallableBackend:
    """Asks a function. A plain one is called in a thread, so it may block.

    Args:
        function: takes the request. It returns the answer's text, a `ModelReply`, a dict with the fields of one, or any
            other dict of JSON data, which becomes the text as JSON.
        name: what errors and reports call this backend; that of the function if omitted.

    Raises:
        ModelConfigurationError: it cannot be called.
    """

    def __init__(self, function: Answering, *, name: str | None = None) -> None:
        if not callable(function):
            raise ModelConfigurationError(f"a model backend is made of a function, not of {type(function).__name__}")
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self._function = function
        called = function if inspect.isroutine(function) else type(function).__call__
        self._is_async = inspect.iscoroutinefunction(called)

    def __repr__(self) -> str:
        return f"<CallableBackend {self.name}>"

    async def complete(self, request: ModelRequest, *, on_text: OnText | None = None) -> ModelReply:
        """See `Backend.complete`.

        Raises:
            ModelReplyError: the function returned something else.
            Exception: whatever the function raised.
        """
        if self._is_async:
            answer = await cast("Awaitable[object]", self._function(request))
        else:
            answer = await self._in_thread(request)
            if inspect.isawaitable(answer):
                answer = await answer
        reply = self._reply(answer)
        if on_text is not None and reply.text:
            on_text(reply.text)
        return reply

    async def _in_thread(self, request: ModelRequest) -> object:
        threads = ThreadPool("perdure-model")
        try:
            return await threads.run(self._function, request)
        finally:
            threads.close()  # its one thread ends with the function, whoever still waits for it

    def _reply(self, answer: object) -> ModelReply:
        if isinstance(answer, ModelReply):
            return answer
        if isinstance(answer, str):
            return ModelReply(answer, self.name)
        if not isinstance(answer, dict):
            raise self._no_reply(f"returned {type(answer).__name__}")
        try:
            if "text" in answer:
                return codec_for(ModelReply).load_json(codec_for(dict[str, Any]).tree(answer))
            return ModelReply(canonical(codec_for(dict[str, Any]).tree(answer)).decode(), self.name)
        except InputTypeError as error:
            raise self._no_reply(f"returned a dict that is no reply: {error.message}") from error
        except PerdureError as error:
            raise self._no_reply(f"returned a dict that is no JSON data: {error.message}") from error

    def _no_reply(self, what: str) -> ModelReplyError:
        hint = "return text, a ModelReply, or a dict"
        return ModelReplyError(f"the model function {self.name!r} {what}", hint=hint)
