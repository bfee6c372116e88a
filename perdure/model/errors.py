"""Errors of model requests. They belong to the tree of `perdure.core.errors`.

Inside a run they are raised within a step, so a workflow sees a `StepFailed` with their code as its `error_code`.
`may_succeed_later` tells from such a failure whether asking again could help.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from perdure.core.errors import Category, InputError, PerdureError, RetryAfter, StepFailed, StepTimeout

# --- before anything is sent ------------------------------------------------------------------------------------------


class ModelConfigurationError(InputError):
    """A model backend is configured wrongly; nothing was sent."""

    code = "model_configuration"


class ModelExtraMissingError(ModelConfigurationError):
    """The HTTP library that model endpoints need is not installed."""

    code = "model_extra_missing"
    default_hint = "pip install 'perdure[model]'"


class ModelNotConfiguredError(ModelConfigurationError):
    """A model is to be asked, and no backend is configured."""

    code = "model_not_configured"
    default_hint = "set PERDURE_MODEL_URL, PERDURE_MODEL and PERDURE_MODEL_KEY, or pass a backend"


# --- what became of a request -----------------------------------------------------------------------------------------


class ModelError(PerdureError):
    """A model request has no answer.

    Args:
        message: the cause, in one line, without any secret.
        status: the HTTP status of the endpoint's answer, if it gave one.
        hint: what the reader can do about it.
        ids: the ids that matter, for example `endpoint="https://…"`.
    """

    code = "model_error"
    category: ClassVar[Category] = "step"

    def __init__(self, message: str, *, status: int | None = None, hint: str | None = None, **ids: Any) -> None:
        super().__init__(message, hint=hint, status=status, **ids)

    @property
    def details(self) -> dict[str, Any]:
        """What is recorded of it beside code and message: its ids."""
        return dict(self.ids)


class ModelRefusedError(ModelError):
    """The endpoint refuses the request; the same request will be refused again."""

    code = "model_refused"
    default_hint = "see what the endpoint says, and check the model's name and the base URL"


class ModelUnauthorizedError(ModelRefusedError):
    """The endpoint refuses the key, or the key may not do this."""

    code = "model_unauthorized"
    default_hint = "check the variable or file that holds the key"


class ModelReplyError(ModelError):
    """What the endpoint answered is no model's reply."""

    code = "model_reply_invalid"
    default_hint = "check the base URL: it must be that of an OpenAI-compatible API, often ending in /v1"


class ModelReplyTooLargeError(ModelReplyError):
    """The reply is over the hard limit for one reply."""

    code = "model_reply_too_large"
    default_hint = "bound the answer with max_output_tokens"


class ModelUnavailableError(ModelError):
    """The endpoint cannot be reached, has a fault of its own, or was cut off."""

    code = "model_unavailable"
    retryable = True


class ModelTimeoutError(ModelUnavailableError):
    """The endpoint did not answer in time."""

    code = "model_timeout"


class ModelCallError(ModelUnavailableError):
    """A backend raised an exception that Perdure does not know; `error_type` is the name of its class."""

    code = "model_call_failed"

    @property
    def error_type(self) -> str:
        """The name of the exception's class."""
        return str(self.ids.get("error_type", "Exception"))


class ModelBusyError(ModelUnavailableError, RetryAfter):
    """The endpoint asks to wait; a step waits that long without using up an attempt.

    Args:
        message: the cause, in one line.
        delay_s: seconds to wait.
        status: the HTTP status, 429 or 503.
        hint, ids: as for every error.
    """

    code = "model_busy"

    def __init__(self, message: str, *, delay_s: float, status: int = 429, hint: str | None = None, **ids: Any) -> None:
        ModelUnavailableError.__init__(self, message, status=status, hint=hint, **ids)
        self.args = (message,)  # on the way up, RetryAfter took the message for its delay
        self.delay_s = delay_s
        self.status_code = status

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_busy, (type(self), self.message, self.delay_s, self.hint, self.ids))


def _rebuild_busy(
    cls: type[ModelBusyError], message: str, delay_s: float, hint: str, ids: dict[str, Any]
) -> ModelBusyError:
    return cls(message, delay_s=delay_s, hint=hint, **ids)


# --- as a workflow sees them ------------------------------------------------------------------------------------------

_LATER: Final = frozenset(
    cls.code for cls in (ModelUnavailableError, ModelTimeoutError, ModelCallError, ModelBusyError, StepTimeout)
)


def may_succeed_later(failed: StepFailed) -> bool:
    """Whether the model request that failed like this may succeed when it is asked again.

    A refused request, a refused key, a reply that is none and a wrong configuration stay what they are.
    """
    return failed.error_code in _LATER
