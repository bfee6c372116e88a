"""What a caller handed in is refused."""

from __future__ import annotations

from perdure.core.errors.base import PerdureError


class InputError(PerdureError):
    """The caller handed in something that cannot be used; nothing was written."""

    code = "invalid_input"


class InvalidIdError(InputError):
    """An id is outside its grammar."""

    code = "invalid_id"
    default_hint = "use letters, digits, '.', '_' and '-', starting with a letter or digit, at most 128 characters"


class InvalidDurationError(InputError):
    """A duration is neither a timedelta, a number of seconds, nor text such as '30s', '5m', '2h', '3d'."""

    code = "invalid_duration"
    default_hint = "write a number and a unit: 500ms, 30s, 5m, 2h, 3d; or pass a timedelta"


class ValueRefusedError(InputError):
    """A value cannot be recorded in the journal as it is."""

    code = "value_refused"
    default_hint = "pass plain JSON data, or declare the type in the function's signature"


class ValueTooLargeError(ValueRefusedError):
    """A value is over the hard limit for one value."""

    code = "value_too_large"
    default_hint = "keep large data outside and pass a reference to it"


class InputTypeError(InputError):
    """An argument does not validate against the type that its function declares."""

    code = "input_type"
    default_hint = "pass arguments of the declared types"


class NotFoundError(InputError):
    """Base of 'there is no such thing'."""

    code = "not_found"


class UnknownWorkflowError(NotFoundError):
    """No workflow of that name is loaded."""

    code = "unknown_workflow"
    default_hint = "load the file that defines it, or check the spelling"


class RunNotFoundError(NotFoundError):
    """No run has this id."""

    code = "run_not_found"
    default_hint = "list runs with 'perdure ps --all'; check --store"


class WaitNotFoundError(NotFoundError):
    """The run has no such wait."""

    code = "wait_not_found"
    default_hint = "list open questions with 'perdure questions'"


class StepNotFoundError(NotFoundError):
    """The run has no such step."""

    code = "step_not_found"
    default_hint = "see the steps with 'perdure show RUN'"


class ArtifactNotFoundError(NotFoundError):
    """No artifact has this SHA-256."""

    code = "artifact_not_found"


class AnswerRefusedError(InputError):
    """An answer matches no choice of its question; the question stays open."""

    code = "answer_refused"


class SecretError(InputError):
    """A secret reference cannot be resolved."""

    code = "secret_unresolved"
    default_hint = "set the variable or file that the reference names before the worker starts"


class SecretLeakError(ValueRefusedError):
    """A value has the shape of a secret and would have been written to the journal."""

    code = "secret_shape"
    default_hint = "pass Secret('env:NAME') and resolve it inside the step"
