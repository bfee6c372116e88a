"""What requests hand in: bodies, and what routes take from a request beside them."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Header, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from perdure.core.errors import InputError, InvalidIdError, RunNotFoundError
from perdure.core.ids import check_key, check_run_id
from perdure.engine.runtime import Runtime
from perdure.server.pipelines import Library

LONGEST_KEY: Final = 200
ANYBODY: Final = "person"
"""Who sends a request where nobody has to say who they are."""


# What the document says of the grammars in `perdure.core.ids`, which check them.
RunIdText = Annotated[str, Field(json_schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"})]
NameText = Annotated[str, Field(json_schema_extra={"pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"})]
KeyText = Annotated[str, Field(json_schema_extra={"pattern": "^[^\\x00-\\x1f\\x7f/]{1,200}$"})]
TagText = Annotated[
    str,
    Field(
        json_schema_extra={"pattern": "^[^\\x00-\\x1f\\x7f\\s,]([^\\x00-\\x1f\\x7f,]{0,126}[^\\x00-\\x1f\\x7f\\s,])?$"}
    ),
]


class Body(BaseModel):
    """A body: unknown members are refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StartBody(Body):
    """What starts a run."""

    workflow: str = Field(description="name of a workflow that is loaded")
    input: dict[str, Any] = Field(default_factory=dict, description="by parameter name")
    id: RunIdText | None = Field(default=None, description="of the run; the same start under it again is the same run")
    tags: list[TagText] = Field(default_factory=list, max_length=100)
    skip_tags: list[TagText] = Field(default_factory=list, max_length=100, description="states of a plan to skip")
    profile: Literal["minimal", "normal", "verbose"] = "normal"


class CommandBody(Body):
    """A command to a run."""

    by: KeyText | None = Field(default=None, description="the name of the person who decided")

    def decided_by(self, actor: str) -> tuple[str, str | None]:
        """Who commands, and the service that brings the command where that is somebody else.

        Args:
            actor: who sent the request.

        Raises:
            InvalidIdError: the person's name is outside the grammar of keys.
        """
        if self.by is None:
            return actor, None
        return f"person:{check_key(self.by, field='by')}", None if actor == ANYBODY else actor


class AnswerBody(CommandBody):
    """An answer to a question."""

    value: Any = Field(description="a choice, several of them, true or false, or text")
    hash: str | None = Field(
        default=None, description="of what was seen, where the question asks to approve something", max_length=200
    )


class SignalBody(CommandBody):
    """A signal to a run."""

    name: NameText
    payload: Any = None
    match: KeyText | None = Field(default=None, description="the key that a waiting run may ask for")
    sender_id: str | None = Field(
        default=None, max_length=1000, description="the sender's own id of it; the same again counts once"
    )


class ReasonBody(CommandBody):
    """Why."""

    reason: str = Field(default="", max_length=10_000)


class ResumeBody(CommandBody):
    """How a pause is undone."""

    accept_definition: bool = Field(default=False, description="go on with the changed definition")


class ResolveBody(CommandBody):
    """What became of a step in doubt."""

    resolution: Literal["done", "not_done", "fail"]
    step: str | None = Field(default=None, description="its key; may be omitted when one step is in doubt")
    value: Any = Field(default=None, description="what it returned")


# Coroutines, each of which awaits nothing: what is none goes to a thread and back, for every request.
async def runtime_of(request: Request) -> Runtime:
    """The engine."""
    runtime: Runtime = request.app.state.runtime
    return runtime


async def library_of(request: Request) -> Library:
    """The pipelines that are known here."""
    library: Library = request.app.state.pipeline_library
    return library


async def actor_of(request: Request) -> str:
    """Who sent the request."""
    actor: str = request.state.actor
    return actor


async def known_id(run_id: Annotated[RunIdText, Path(max_length=1000)]) -> str:
    """The id in the path; one that no run can have is the id of no run."""
    try:
        return check_run_id(run_id)
    except InvalidIdError:
        raise RunNotFoundError(f"no run {run_id!r}", run_id=run_id) from None


async def command_id(
    idempotency_key: Annotated[
        KeyText | None,
        Header(max_length=LONGEST_KEY, description="the same command under it again is recognised as a resend"),
    ] = None,
) -> str | None:
    """Under what the command is recognised when it is sent again."""
    return None if idempotency_key is None else check_key(idempotency_key, field="Idempotency-Key")


def run_id_for(key: str, actor: str) -> str:
    """The id of the run that a sender starts under an idempotency key: the same for the same sender and key."""
    return "k" + sha256(f"{actor}\x00{key}".encode("utf-8", "surrogatepass")).hexdigest()[:31]


def check_resendable(run_id: str | None, key: str | None) -> None:
    """Raises `InputError` for a start that names its run twice."""
    if run_id is not None and key is not None:
        raise InputError(
            "the run has an id and an Idempotency-Key",
            hint="leave one out: a start under an id that is sent again is recognised, too",
            field="id",
        )


Engine = Annotated[Runtime, Depends(runtime_of)]
KnownPipelines = Annotated[Library, Depends(library_of)]
Actor = Annotated[str, Depends(actor_of)]
RunId = Annotated[str, Depends(known_id)]
CommandId = Annotated[str | None, Depends(command_id)]
