"""Asking a model durably: one step, recorded at once, because an answer is costly and never the same twice."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from perdure.core.durations import Duration
from perdure.core.errors import RetryAfter
from perdure.core.policies import Backoff
from perdure.engine.current import current_step
from perdure.model.configuration import configured_backend
from perdure.model.errors import ModelNotConfiguredError, ModelUnavailableError
from perdure.model.port import Backend
from perdure.model.reply import ModelReply
from perdure.model.request import ModelRequest
from perdure.model.statuses import as_model_error
from perdure.workflow.steps import Step, step

if TYPE_CHECKING:
    from perdure.engine.run import Run

RETRIES: Final = 2
TIMEOUT: Final = "10m"
GIVE_UP_AFTER: Final = "1h"
BACKOFF: Final = Backoff(initial_s=1.0)


def model_step(backend: Backend | None = None, *, patience_s: float | None = None) -> Step[[ModelRequest], ModelReply]:
    """The step `ask_model` that asks a backend, for `run.step`, `run.map`, flows and plans.

    It is a `read` with `commit="now"`: a crash in the middle asks again, and a reply that came is never asked for
    again. It fails with the codes of `ModelError`; those that `may_succeed_later` names are tried again, and a
    `Retry-After` is waited for without using up an attempt. The backend is no part of what is recorded, so a run may
    go on with another one.

    Args:
        backend: who is asked; the one that the environment of the process names if omitted.
        patience_s: when the environment names none, look again every so many seconds, until the step gives up, instead
            of failing at once: a run that went on in the wrong place may be taken up in the right one.
    """

    @step(
        kind="read",
        name="ask_model",
        commit="now",
        retries=RETRIES,
        backoff=BACKOFF,
        retry_on=ModelUnavailableError,
        timeout=TIMEOUT,
        give_up_after=GIVE_UP_AFTER,
    )
    async def ask_model(request: ModelRequest) -> ModelReply:
        """Ask a model."""
        asked = configured_backend(os.environ) if backend is None else backend
        if asked is None:
            missing = ModelNotConfiguredError("no model backend is configured")
            if patience_s is None:
                raise missing
            raise RetryAfter(patience_s) from missing
        try:
            return await asked.complete(request, on_text=current_step().tell)
        except Exception as error:
            known = as_model_error(error, time.time())
            if known is error:
                raise
            raise known from error

    return ask_model


ask_model: Final = model_step()
"""The step that asks the backend which the environment of the process names."""


async def request_model(
    run: Run,
    backend: Backend,
    request: ModelRequest,
    *,
    key: str | None = None,
    timeout: Duration = TIMEOUT,
    retries: int = RETRIES,
    give_up_after: Duration = GIVE_UP_AFTER,
) -> ModelReply:
    """Ask a model within a run; see `model_step`.

    Args:
        run: the run.
        backend: who is asked.
        request: recorded as the input of the step.
        key: the step's key; its name and occurrence if omitted.
        timeout: for one attempt.
        retries: how often to ask again.
        give_up_after: for all attempts and waits together, those that the endpoint asked for included.

    Returns:
        The reply as it is recorded.

    Raises:
        StepFailed: there is no answer; `may_succeed_later` says whether asking again could help. `StepTimeout` if none
            came in time.
        SecretLeakError: the request has the shape of a secret; nothing was recorded.
    """
    asking = model_step(backend).options(key=key, timeout=timeout, retries=retries, give_up_after=give_up_after)
    return await run.step(asking, request)
