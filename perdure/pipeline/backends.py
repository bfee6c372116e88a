"""Who is asked at `codergen` stages."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from perdure.core.canonical import canonical
from perdure.model.callable import CallableBackend
from perdure.model.configuration import configured_backend
from perdure.model.port import Backend
from perdure.model.reply import ModelReply
from perdure.model.request import ModelRequest
from perdure.pipeline.outcome import Outcome

Answer: TypeAlias = str | ModelReply | Outcome
Model: TypeAlias = Backend | Callable[[ModelRequest], Awaitable[Answer]] | Callable[[ModelRequest], Answer]
"""A backend, or any function that answers a request: with text, a reply, or an outcome."""


def backend_of(model: Model | None) -> Backend | None:
    """The backend that is meant; without one that which the environment names, if any.

    Raises:
        ModelConfigurationError: what the environment says cannot be used, or what is given cannot be asked.
    """
    if model is None:
        return configured_backend(os.environ)
    if hasattr(model, "complete"):
        return cast("Backend", model)
    name = str(getattr(model, "__name__", type(model).__name__))
    return CallableBackend(_telling(model), name=name)


def _telling(model: Callable[[ModelRequest], Any]) -> Callable[[ModelRequest], Any]:
    """The same function, with an outcome told as text: a reply is what is recorded."""
    called = model if inspect.isroutine(model) else type(model).__call__
    if not inspect.iscoroutinefunction(called):
        return lambda request: _told(model(request))

    async def answer(request: ModelRequest) -> Any:
        return _told(await model(request))

    return answer


def _told(answer: Any) -> Any:
    return canonical(answer.to_dict()).decode() if isinstance(answer, Outcome) else answer
