"""Model requests: what is asked and answered, who answers, and the step that asks."""

from perdure.model.asking import ask_model, model_step, request_model
from perdure.model.callable import CallableBackend
from perdure.model.configuration import configured_backend
from perdure.model.errors import (
    ModelBusyError,
    ModelCallError,
    ModelConfigurationError,
    ModelError,
    ModelExtraMissingError,
    ModelNotConfiguredError,
    ModelRefusedError,
    ModelReplyError,
    ModelReplyTooLargeError,
    ModelTimeoutError,
    ModelUnauthorizedError,
    ModelUnavailableError,
    may_succeed_later,
)
from perdure.model.openai import OpenAIBackend
from perdure.model.port import Backend
from perdure.model.reply import ModelReply, Usage
from perdure.model.request import Message, ModelRequest, ask
from perdure.model.simulation import SimulatedBackend

__all__ = [
    "Backend",
    "CallableBackend",
    "Message",
    "ModelBusyError",
    "ModelCallError",
    "ModelConfigurationError",
    "ModelError",
    "ModelExtraMissingError",
    "ModelNotConfiguredError",
    "ModelRefusedError",
    "ModelReply",
    "ModelReplyError",
    "ModelReplyTooLargeError",
    "ModelRequest",
    "ModelTimeoutError",
    "ModelUnauthorizedError",
    "ModelUnavailableError",
    "OpenAIBackend",
    "SimulatedBackend",
    "Usage",
    "ask",
    "ask_model",
    "configured_backend",
    "may_succeed_later",
    "model_step",
    "request_model",
]
