"""Options of a submitted pipeline: what is accepted, and what each refusal names."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.errors import InputError
from perdure.server.pipelines.names import graph_name, is_submitted, workflow_name
from perdure.server.pipelines.options import read_options


def test_options_of_the_right_types_are_taken_and_pinned_but_for_the_id() -> None:
    given = {"pipeline_id": "a.B-1_x", "max_steps": 3, "initial_delay_ms": 10, "backoff_factor": 1.5}
    options = read_options({**given, "max_delay_ms": 500, "retry_jitter": False, "logs_root": 5, "retry_sleep": None})
    assert options.pipeline_id == "a.B-1_x"
    assert read_options(options.pinned).pinned == options.pinned
    assert "pipeline_id" not in options.pinned
    backoff = options.retry.backoff
    assert (backoff.initial_s, backoff.factor, backoff.max_s, backoff.jitter) == (0.01, 1.5, 0.5, 0.0)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("text", "opts"),
        ([], "opts"),
        ({"pipeline_id": 5}, "opts.pipeline_id"),
        ({"pipeline_id": ""}, "opts.pipeline_id"),
        ({"pipeline_id": "../up"}, "opts.pipeline_id"),
        ({"pipeline_id": "x" * 129}, "opts.pipeline_id"),
        ({"max_steps": 0}, "opts.max_steps"),
        ({"max_steps": True}, "opts.max_steps"),
        ({"max_steps": "5"}, "opts.max_steps"),
        ({"max_steps": 1.5}, "opts.max_steps"),
        ({"initial_delay_ms": -1}, "opts.initial_delay_ms"),
        ({"backoff_factor": "2"}, "opts.backoff_factor"),
        ({"max_delay_ms": False}, "opts.max_delay_ms"),
        ({"max_delay_ms": 10**400}, "opts.max_delay_ms"),
        ({"retry_jitter": 1}, "opts.retry_jitter"),
        ({"colour": "red"}, "opts.colour"),
    ],
)
def test_a_refused_option_is_named(given: Any, field: str) -> None:
    with pytest.raises(InputError) as refused:
        read_options(given)
    assert refused.value.ids["field"] == field
    assert refused.value.message.startswith(field)


def test_the_name_of_a_workflow_tells_the_graph_and_differs_with_text_and_options() -> None:
    name = workflow_name("Deploy", "text", {})
    assert graph_name(name) == "Deploy"
    assert is_submitted(name)
    assert name == workflow_name("Deploy", "text", {})
    assert len({name, workflow_name("Deploy", "text ", {}), workflow_name("Deploy", "text", {"max_steps": 3})}) == 3
    assert len(workflow_name("x" * 500, "text", {})) == 128
    assert graph_name("pipeline.short") == "pipeline.short"
    assert not is_submitted("Deploy")
