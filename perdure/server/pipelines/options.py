"""The options of a submitted pipeline: which there are, of what type, and what each refusal says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from perdure.core.canonical import JSONValue
from perdure.core.errors import InputError, InvalidIdError
from perdure.core.ids import check_run_id
from perdure.core.policies import Backoff
from perdure.pipeline.retries import RetryPolicy

IGNORED: Final = frozenset(("logs_root", "retry_sleep"))
"""Accepted, whatever they hold, and without effect."""
MOST_STEPS: Final = 1_000_000
LONGEST_DELAY_MS: Final = 7 * 24 * 3600 * 1000
HIGHEST_FACTOR: Final = 1000.0


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What a submitted pipeline is executed with; `None` for what its graph, or the dialect, says.

    Args:
        pipeline_id: the id of the run.
        max_steps: how many stages it may come to.
        initial_delay_ms: before the first repetition of a stage.
        backoff_factor: by which the delay grows.
        max_delay_ms: at most.
        retry_jitter: whether delays are drawn at random around their length.
    """

    pipeline_id: str | None = None
    max_steps: int | None = None
    initial_delay_ms: float | None = None
    backoff_factor: float | None = None
    max_delay_ms: float | None = None
    retry_jitter: bool | None = None

    @property
    def pinned(self) -> dict[str, JSONValue]:
        """What the run must keep, to be executed in the same way after a restart."""
        members = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "pipeline_id"}
        return {name: value for name, value in members.items() if value is not None}

    @property
    def retry(self) -> RetryPolicy:
        """How stages are repeated that say how often."""
        plain = Backoff()
        return RetryPolicy(
            backoff=Backoff(
                plain.initial_s if self.initial_delay_ms is None else self.initial_delay_ms / 1000,
                plain.factor if self.backoff_factor is None else self.backoff_factor,
                plain.max_s if self.max_delay_ms is None else self.max_delay_ms / 1000,
                0.0 if self.retry_jitter is False else plain.jitter,
            )
        )


def read_options(given: object) -> PipelineOptions:
    """The options of a request.

    Args:
        given: the member `opts`; `None` for none.

    Raises:
        InputError: one is unknown, of the wrong type or out of bounds; `ids["field"]` names it.
    """
    if given is None:
        return PipelineOptions()
    if not isinstance(given, dict):
        raise _refused("opts", "takes an object")
    known = {one.name for one in fields(PipelineOptions)}
    for name in given:
        if name not in known | IGNORED:
            raise _refused(f"opts.{name[:80]}", f"is unknown; there are {', '.join(sorted(known | IGNORED))}")
    return PipelineOptions(
        pipeline_id=_id(given),
        max_steps=_whole(given, "max_steps", 1, MOST_STEPS),
        initial_delay_ms=_number(given, "initial_delay_ms", 0, LONGEST_DELAY_MS),
        backoff_factor=_number(given, "backoff_factor", 0, HIGHEST_FACTOR),
        max_delay_ms=_number(given, "max_delay_ms", 0, LONGEST_DELAY_MS),
        retry_jitter=_boolean(given, "retry_jitter"),
    )


def _id(given: Mapping[str, Any]) -> str | None:
    value = given.get("pipeline_id")
    if value is None:
        return None
    try:
        return check_run_id(value)
    except InvalidIdError as error:
        raise _refused("opts.pipeline_id", f"is no id; {error.hint}") from error


def _whole(given: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _refused(f"opts.{name}", f"takes a whole number from {least} to {most}")
    return value


def _number(given: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:  # no comparison holds for what is no number at all
        raise _refused(f"opts.{name}", f"takes a number from {least:g} to {most:g}")
    return float(value)


def _boolean(given: Mapping[str, Any], name: str) -> bool | None:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise _refused(f"opts.{name}", "takes true or false")
    return value


def _refused(field: str, problem: str) -> InputError:
    return InputError(f"{field} {problem}", field=field)
