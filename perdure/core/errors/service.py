"""What stands between a client and the service: the line, the credentials, and answers that are none."""

from __future__ import annotations

from typing import Any, ClassVar

from perdure.core.errors.base import Category, PerdureError
from perdure.core.errors.input import InputError
from perdure.core.errors.state import StateError


class ServiceError(PerdureError):
    """The service could not be asked, or its answer cannot be used."""

    code = "service_error"
    category: ClassVar[Category] = "service"


class ServerUnreachableError(ServiceError):
    """Nobody answers at the service's address, or the connection was lost again and again."""

    code = "server_unreachable"
    retryable = True
    default_hint = "check the address, and that the service runs"


class ServiceBusyError(ServiceError):
    """The service, or what stands before it, asks to come again later."""

    code = "service_busy"
    retryable = True


class ServiceFaultError(ServiceError):
    """The service met a fault of its own."""

    code = "service_fault"
    default_hint = "the service's log tells what happened"


class NotAuthorisedError(ServiceError):
    """The service does not know the token, or none was sent."""

    code = "not_authorised"
    default_hint = "pass the token of an API key; the first one stands in the URL that the service prints at its start"


class NotPermittedError(NotAuthorisedError):
    """The token is known, and may not do this."""

    code = "not_permitted"
    default_hint = "use a key that has the scope"


class ReplyInvalidError(ServiceError):
    """What answered is not the service, or not of a version that this client understands."""

    code = "reply_invalid"
    default_hint = "check the address: it must be the service itself"


class EventTooLargeError(ReplyInvalidError):
    """One event of a stream is over the hard limit."""

    code = "event_too_large"


class RemoteError(ServiceError):
    """The service told of an error that has no class here; it bears the code, category and `retryable` it was told."""

    code = "remote_error"

    def __init__(self, message: str, *, told: dict[str, Any] | None = None, hint: str | None = None, **ids: Any):
        super().__init__(message, hint=hint, **ids)
        self.told = dict(told or {})
        for name in ("code", "category", "retryable"):
            if name in self.told:
                vars(self)[name] = self.told[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), self.__dict__.copy())


class ServerExtraMissingError(InputError):
    """The libraries that the service needs are not installed."""

    code = "server_extra_missing"
    default_hint = "pip install 'perdure[server]'"


class TelemetryExtraMissingError(InputError):
    """The library that telemetry needs is not installed."""

    code = "telemetry_extra_missing"
    default_hint = "pip install 'perdure[telemetry]'"


class ResultTimeoutError(StateError, TimeoutError):
    """The run has not ended within the time that was given; it goes on."""

    code = "result_timeout"
    retryable = True


class ClientClosedError(StateError):
    """The client is closed, or not open yet."""

    code = "client_closed"
    default_hint = "use it inside 'async with', or 'with' for the blocking face"


class ClientExtraMissingError(InputError):
    """The HTTP library that the client needs is not installed."""

    code = "client_extra_missing"
    default_hint = "pip install 'perdure[client]'"


class LocalOnlyError(InputError):
    """It cannot be done over HTTP: it needs the store, or the files, themselves."""

    code = "local_only"
    default_hint = "leave --server out"
