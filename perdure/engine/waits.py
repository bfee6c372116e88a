"""How a run waits: for a person, a signal, or a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, TypeVar, overload

import orjson

from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import InputError, InputTypeError
from perdure.core.ids import check_key, check_name
from perdure.core.values import codec_for
from perdure.engine import waiting
from perdure.engine.run_face import RunFace
from perdure.engine.scopes import Scope
from perdure.engine.waiting import MISSING
from perdure.journal.questions import check_answer

T = TypeVar("T")
QuestionKind = Literal["choice", "text", "confirm", "multiple"]


class Waits(RunFace):
    """The face of a run that waits."""

    async def ask(
        self,
        text: str,
        *,
        choices: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
        kind: QuestionKind | None = None,
        default: Any = MISSING,
        timeout: Duration | None = None,
        key: str | None = None,
        approve: Any = MISSING,
        declinable: bool = False,
    ) -> Any:
        """Ask a person, and wait for the answer: seconds or months, with or without a process.

        Args:
            text: the question.
            choices: what may be answered.
            keys: a short form of each choice, which may be answered in its place.
            kind: `choice` (one of them; default where there are choices), `multiple` (a list of them), `confirm` (yes
                or no), `text` (default without choices).
            default: the answer after the timeout.
            timeout: how long to wait.
            key: the wait's key.
            approve: the exact value that is to be approved. It is recorded in the question with its hash, and an
                answer must name the hash of what its sender saw.
            declinable: `False` is an answer, too: it declines what the choices offer.

        Returns:
            The choice, the list of choices, a bool, or the text.

        Raises:
            WaitTimeout: it timed out and there is no default.
        """
        asked = _question(text, kind, choices, keys, declinable=declinable)
        question = dict(asked)
        if approve is not MISSING:
            given = codec_for(Any).dump(approve)
            self._execution.refuse_shape(given, "what is to be approved")
            # As it is given: a secret that is known later makes no other question of it when the code runs again.
            asked |= {"approve": sha256(given).hexdigest()}
            question |= {"approve": orjson.loads(given)}
        data: dict[str, Any] = {"wait": "question", "question": question, **self._deadline(timeout)}
        if default is not MISSING:
            data |= {"has_default": True, "default": check_answer(question, default)}
        event, scope = await self._wait("ask", key, asked, data)
        return await waiting.result_of(self._execution, event, scope, f"question {text!r}")

    @overload
    async def wait_for(
        self,
        signal: str,
        *,
        match: str | None = None,
        timeout: Duration | None = None,
        default: Any = MISSING,
        key: str | None = None,
    ) -> Any: ...
    @overload
    async def wait_for(
        self,
        signal: str,
        *,
        type: type[T],
        match: str | None = None,
        timeout: Duration | None = None,
        default: Any = MISSING,
        key: str | None = None,
    ) -> T: ...
    async def wait_for(
        self,
        signal: str,
        *,
        match: str | None = None,
        timeout: Duration | None = None,
        default: Any = MISSING,
        key: str | None = None,
        type: Any = Any,
    ) -> Any:
        """Wait for a signal from outside; one that came early was kept.

        Args:
            signal: its name.
            match: take only a signal that was sent with this key.
            timeout: how long to wait.
            default: what to return after the timeout.
            key: the wait's key.
            type: what the payload must be.

        Returns:
            The signal's payload. Each signal is delivered once.

        Raises:
            WaitTimeout: it timed out and there is no default.
        """
        check_name(signal, field="signal")
        if match is not None:
            check_key(match, field="match")
        data: dict[str, Any] = {"wait": "signal", "name": signal, "match": match, **self._deadline(timeout)}
        codec = codec_for(type)
        if default is not MISSING:
            data |= {"has_default": True, "default": codec.tree(default)}
        event, scope = await self._wait(f"wait_for.{signal}", key, {"signal": signal, "match": match}, data)
        tree = await waiting.result_of(self._execution, event, scope, f"signal {signal!r}")
        return codec.load_json(tree)

    async def sleep(self, duration: Duration, *, key: str | None = None) -> None:
        """Sleep; the due instant is recorded, so a restart does not begin anew.

        Args:
            duration: `"1h"`, a timedelta, or seconds.
        """
        delay_ms = round(parse_duration(duration, name="duration") * 1000)
        due_ms = self._execution.services.clock.now_ms() + delay_ms
        await self._wait("sleep", key, {"duration_ms": delay_ms}, {"wait": "timer", "deadline_ms": due_ms})

    async def sleep_until(self, when: datetime, *, key: str | None = None) -> None:
        """Sleep until an instant.

        Args:
            when: with a time zone.
        """
        if not isinstance(when, datetime) or when.tzinfo is None:
            raise InputTypeError(f"sleep_until takes a datetime with a time zone, not {when!r}", run_id=self.id)
        due_ms = round(when.timestamp() * 1000)
        await self._wait("sleep", key, {"until_ms": due_ms}, {"wait": "timer", "deadline_ms": due_ms})

    def _deadline(self, timeout: Duration | None) -> dict[str, int]:
        if timeout is None:
            return {}
        delay_ms = round(parse_duration(timeout, name="timeout") * 1000)
        return {"deadline_ms": self._execution.services.clock.now_ms() + delay_ms}

    async def _wait(self, name: str, key: str | None, asked: dict[str, Any], data: dict[str, Any]) -> tuple[Any, Scope]:
        self._execution.check()
        scope = self._scope()
        scope.enter(name)
        try:
            return await waiting.wait(self._execution, scope, name, key, asked, data), scope
        finally:
            scope.open = False


def _question(
    text: str,
    kind: QuestionKind | None,
    choices: Sequence[str] | None,
    keys: Sequence[str] | None,
    *,
    declinable: bool,
) -> dict[str, Any]:
    """A question in the form in which it is recorded.

    Raises:
        InputError: it makes no sense.
    """
    kind = kind or ("choice" if choices is not None else "text")
    if not isinstance(text, str) or not text:
        raise InputTypeError(f"a question is a text, not {text!r}")
    if (kind in ("choice", "multiple")) != (choices is not None):
        raise InputError(f"a question of kind {kind!r} {'needs' if choices is None else 'takes no'} choices")
    names = list(choices or ())
    if choices is not None and (not names or len(set(names)) != len(names)):
        raise InputError("choices must be different, and at least one")
    if keys is not None and (len(keys) != len(names) or len({*keys, *names}) != 2 * len(names)):
        raise InputError("keys must be as many as the choices, and different from them and from each other")
    if declinable and kind != "choice":
        raise InputError(f"a question of kind {kind!r} cannot be declined: only one that takes one choice can")
    question: dict[str, Any] = {"kind": kind, "text": text, "choices": names}
    if keys is not None:
        question["keys"] = list(keys)
    return question | ({"declinable": True} if declinable else {})
