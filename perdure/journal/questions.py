"""Questions: which one an answer is for, whether it is still open, and what may be answered. Pure functions."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from perdure.core.errors import (
    AnswerRefusedError,
    QuestionExpiredError,
    StaleApprovalError,
    WaitClosedError,
    WaitNotFoundError,
)
from perdure.journal.state import RunState, Wait


def approval_hash(data: bytes) -> str:
    """The hash of what a question asks to approve: SHA-256, in hex.

    Args:
        data: the value as it is recorded, as canonical JSON.
    """
    return sha256(data).hexdigest()


def find_question(state: RunState, wait_id: str | None) -> Wait:
    """The question that an answer is for: by its id, or the only open one.

    Raises:
        WaitNotFoundError: there is no such question, none is open, or several are and none was named.
        WaitClosedError: it was answered, timed out or cancelled.
    """
    if wait_id is not None:
        wait = state.waits.get(wait_id)
        if wait is None or wait.kind != "question":
            raise WaitNotFoundError(
                f"run {state.run_id} has no question {wait_id!r}", run_id=state.run_id, wait_id=wait_id
            )
        if wait.closed is not None:
            raise WaitClosedError(
                f"question {wait_id!r} is closed ({wait.closed.kind} at seq {wait.closed.seq})",
                run_id=state.run_id,
                wait_id=wait_id,
            )
        return wait
    found = [wait for wait in state.open_waits() if wait.kind == "question" and wait.data.get("subject") is None]
    closed = [wait for wait in state.waits.values() if wait.kind == "question" and wait.closed is not None]
    if not found and closed:
        raise WaitClosedError(
            f"run {state.run_id} asks nothing now; its last question was closed at seq {closed[-1].closed_seq}",
            run_id=state.run_id,
            wait_id=closed[-1].wait_id,
        )
    if len(found) != 1:
        problem = "no open question" if not found else f"{len(found)} open questions; name one"
        raise WaitNotFoundError(
            f"run {state.run_id} has {problem}",
            hint="list them with 'perdure questions'",
            run_id=state.run_id,
            wait_ids=[wait.wait_id for wait in found] or None,
        )
    return found[0]


def check_in_time(state: RunState, wait: Wait, now_ms: int) -> None:
    """Refuse an answer that comes at or after the deadline of its question.

    The timers of a run that was cancelled have stopped, so its questions have no deadline any more.

    Args:
        now_ms: the clock of who brings the answer.

    Raises:
        QuestionExpiredError: it is too late.
    """
    stopped = state.status == "cancelled" or state.cancel_requested is not None
    if wait.deadline_ms is None or now_ms < wait.deadline_ms or stopped:
        return
    raise QuestionExpiredError(
        f"question {wait.wait_id!r} was open until its deadline, {(now_ms - wait.deadline_ms) / 1000:g} s ago",
        run_id=state.run_id,
        wait_id=wait.wait_id,
        deadline_ms=wait.deadline_ms,
    )


def check_approval(state: RunState, wait: Wait, saw: str | None) -> None:
    """Refuse an answer that does not name what its question asks to approve.

    Args:
        saw: the hash that the answer names.

    Raises:
        AnswerRefusedError: it names none where there is one, or one where there is none.
        StaleApprovalError: it names another.
    """
    hash = wait.data["question"].get("hash")
    if saw == hash:
        return
    places = {"run_id": state.run_id, "wait_id": wait.wait_id}
    if saw is None:
        raise AnswerRefusedError(
            f"question {wait.wait_id!r} asks to approve something, and the answer does not say what was seen",
            hint="look at what is to be approved, and name its hash: --saw HASH, saw=, or 'hash' over HTTP",
            **places,
        )
    if hash is None:
        raise AnswerRefusedError(
            f"question {wait.wait_id!r} carries nothing to approve, and the answer names a hash",
            hint="answer without a hash",
            **places,
        )
    raise StaleApprovalError(
        f"the answer is to something else than question {wait.wait_id!r} asks to approve", saw=saw, **places
    )


def check_answer(question: dict[str, Any], answer: Any) -> Any:
    """The answer as it is recorded.

    Args:
        question: `kind` (`choice`, `text`, `confirm`, `multiple`), `choices` where there are any, `keys`, by which they
            may be named, and `declinable`.
        answer: as given. `False` declines what a question with `declinable` offers.

    Raises:
        AnswerRefusedError: it matches no choice, or is of the wrong type.
    """
    if answer is False and question.get("declinable"):
        return False
    kind = question["kind"]
    choices: list[str] = question.get("choices") or []
    if kind == "text":
        if not isinstance(answer, str):
            raise AnswerRefusedError(f"the question wants text, not {answer!r}")
        return answer
    if kind == "confirm":
        if isinstance(answer, bool):
            return answer
        words = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}
        if isinstance(answer, str) and answer.strip().lower() in words:
            return words[answer.strip().lower()]
        raise AnswerRefusedError(f"the question wants yes or no, not {answer!r}")
    by_key = dict(zip(question.get("keys") or (), choices, strict=False))
    if kind == "multiple":
        given = [by_key.get(one, one) if isinstance(one, str) else one for one in _as_list(answer)]
        unknown = [one for one in given if one not in choices]
        if unknown or len(set(map(str, given))) != len(given):
            raise AnswerRefusedError(f"{answer!r} is not a selection of {choices}")
        return given
    if not isinstance(answer, str) or by_key.get(answer, answer) not in choices:
        raise AnswerRefusedError(f"{answer!r} is none of {choices}", hint="answer with one of the choices as written")
    return by_key.get(answer, answer)


def _as_list(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [answer]
