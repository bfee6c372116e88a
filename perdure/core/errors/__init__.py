"""The exception tree of Perdure.

Every error that Perdure raises on purpose is a `PerdureError`. Each class has a stable `code` (what programs match
on), a `category`, and says whether the same call may succeed later (`retryable`). Each instance carries its cause in
one line, a hint that says what to do, and the ids that matter. `to_dict()` is what the command line and the HTTP
service print.

Two things are deliberately *not* exceptions of this tree: `RunAbandoned` is a `BaseException`, because user code that
catches `Exception` must not be able to go on with a run that it no longer owns.
"""

from perdure.core.errors.abandoned import RunAbandoned as RunAbandoned
from perdure.core.errors.base import Category as Category
from perdure.core.errors.base import PerdureError as PerdureError
from perdure.core.errors.conflict import CommandConflictError as CommandConflictError
from perdure.core.errors.conflict import ConflictError as ConflictError
from perdure.core.errors.conflict import HeadMovedError as HeadMovedError
from perdure.core.errors.conflict import MergeConflictError as MergeConflictError
from perdure.core.errors.conflict import RunConflictError as RunConflictError
from perdure.core.errors.conflict import ScopeInUseError as ScopeInUseError
from perdure.core.errors.conflict import StaleApprovalError as StaleApprovalError
from perdure.core.errors.definition import DefinitionError as DefinitionError
from perdure.core.errors.definition import DefinitionLoadError as DefinitionLoadError
from perdure.core.errors.definition import DuplicateWorkflowError as DuplicateWorkflowError
from perdure.core.errors.definition import EffectError as EffectError
from perdure.core.errors.definition import FlowError as FlowError
from perdure.core.errors.definition import FormError as FormError
from perdure.core.errors.definition import PlanError as PlanError
from perdure.core.errors.definition import PolicyError as PolicyError
from perdure.core.errors.definition import Problem as Problem
from perdure.core.errors.definition import SignatureError as SignatureError
from perdure.core.errors.input import AnswerRefusedError as AnswerRefusedError
from perdure.core.errors.input import ArtifactNotFoundError as ArtifactNotFoundError
from perdure.core.errors.input import InputError as InputError
from perdure.core.errors.input import InputTypeError as InputTypeError
from perdure.core.errors.input import InvalidDurationError as InvalidDurationError
from perdure.core.errors.input import InvalidIdError as InvalidIdError
from perdure.core.errors.input import NotFoundError as NotFoundError
from perdure.core.errors.input import RunNotFoundError as RunNotFoundError
from perdure.core.errors.input import SecretError as SecretError
from perdure.core.errors.input import SecretLeakError as SecretLeakError
from perdure.core.errors.input import StepNotFoundError as StepNotFoundError
from perdure.core.errors.input import UnknownWorkflowError as UnknownWorkflowError
from perdure.core.errors.input import ValueRefusedError as ValueRefusedError
from perdure.core.errors.input import ValueTooLargeError as ValueTooLargeError
from perdure.core.errors.input import WaitNotFoundError as WaitNotFoundError
from perdure.core.errors.service import ClientClosedError as ClientClosedError
from perdure.core.errors.service import ClientExtraMissingError as ClientExtraMissingError
from perdure.core.errors.service import EventTooLargeError as EventTooLargeError
from perdure.core.errors.service import LocalOnlyError as LocalOnlyError
from perdure.core.errors.service import NotAuthorisedError as NotAuthorisedError
from perdure.core.errors.service import NotPermittedError as NotPermittedError
from perdure.core.errors.service import RemoteError as RemoteError
from perdure.core.errors.service import ReplyInvalidError as ReplyInvalidError
from perdure.core.errors.service import ResultTimeoutError as ResultTimeoutError
from perdure.core.errors.service import ServerExtraMissingError as ServerExtraMissingError
from perdure.core.errors.service import ServerUnreachableError as ServerUnreachableError
from perdure.core.errors.service import ServiceBusyError as ServiceBusyError
from perdure.core.errors.service import ServiceError as ServiceError
from perdure.core.errors.service import ServiceFaultError as ServiceFaultError
from perdure.core.errors.service import TelemetryExtraMissingError as TelemetryExtraMissingError
from perdure.core.errors.state import NotInDoubtError as NotInDoubtError
from perdure.core.errors.state import NotReopenableError as NotReopenableError
from perdure.core.errors.state import QuestionExpiredError as QuestionExpiredError
from perdure.core.errors.state import RunCancelled as RunCancelled
from perdure.core.errors.state import RunEndedError as RunEndedError
from perdure.core.errors.state import RunFailed as RunFailed
from perdure.core.errors.state import RunParkedError as RunParkedError
from perdure.core.errors.state import SignalBacklogError as SignalBacklogError
from perdure.core.errors.state import StateError as StateError
from perdure.core.errors.state import WaitClosedError as WaitClosedError
from perdure.core.errors.step import ChildFailed as ChildFailed
from perdure.core.errors.step import RetryAfter as RetryAfter
from perdure.core.errors.step import StepError as StepError
from perdure.core.errors.step import StepFailed as StepFailed
from perdure.core.errors.step import StepResultError as StepResultError
from perdure.core.errors.step import StepTimeout as StepTimeout
from perdure.core.errors.step import WaitTimeout as WaitTimeout
from perdure.core.errors.store import CorruptRecordError as CorruptRecordError
from perdure.core.errors.store import FencedError as FencedError
from perdure.core.errors.store import ForkedProcessError as ForkedProcessError
from perdure.core.errors.store import NotAStoreError as NotAStoreError
from perdure.core.errors.store import OutcomeUnknownError as OutcomeUnknownError
from perdure.core.errors.store import StoreBusyError as StoreBusyError
from perdure.core.errors.store import StoreClosedError as StoreClosedError
from perdure.core.errors.store import StoreCorruptError as StoreCorruptError
from perdure.core.errors.store import StoreError as StoreError
from perdure.core.errors.store import StoreNotFoundError as StoreNotFoundError
from perdure.core.errors.store import StoreReadError as StoreReadError
from perdure.core.errors.store import StoreReadOnlyError as StoreReadOnlyError
from perdure.core.errors.store import StoreUrlError as StoreUrlError
from perdure.core.errors.store import StoreVersionError as StoreVersionError
from perdure.core.errors.store import StoreWriteError as StoreWriteError
from perdure.core.errors.testing import CrashMatrixError as CrashMatrixError
from perdure.core.errors.testing import NotSettledError as NotSettledError
from perdure.core.errors.webhook import WebhookError as WebhookError
from perdure.core.errors.webhook import WebhookSecretError as WebhookSecretError
from perdure.core.errors.webhook import WebhookSignatureError as WebhookSignatureError
from perdure.core.errors.webhook import WebhooksUnusableError as WebhooksUnusableError
from perdure.core.errors.webhook import WebhookTimeError as WebhookTimeError
