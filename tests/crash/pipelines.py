"""Pipelines for the crash matrix. Their commands leave a line for each time that they were run."""

from __future__ import annotations

from pathlib import Path

from perdure.core.policies import Backoff
from perdure.model.request import ModelRequest
from perdure.pipeline.definition import Pipeline
from perdure.pipeline.retries import RetryPolicy


async def model(request: ModelRequest) -> str:
    """A model that answers with what it was asked."""
    return f"answer to {request.messages[-1].content}"


def count(name: str, then: str = "true") -> str:
    """A command that leaves a line, and then does something."""
    return f"echo $PERDURE_IDEMPOTENCY_KEY >> {name}.calls; {then}"


linear = Pipeline.parse(
    """digraph linear { goal="ship"; default_fidelity=full; thread_id=t;
       start -> plan -> build -> review -> exit;
       start; exit; plan [prompt="Plan $goal"]; build; review }""",
    model=model,
)

gated = Pipeline.parse(
    f"""digraph gated {{ start; exit;
       make [shape=parallelogram, effect=once, tool_command="{count("make")}"];
       test [shape=parallelogram, goal_gate=true, retry_target=make, max_retries=1,
             tool_command="{count("test", "test $(sort -u test.calls | wc -l) -ge 3")}"];
       person [shape=hexagon, label="Ship?"];
       start -> make -> test -> person; person -> exit [label="[Y] Yes"]; person -> make [label="[N] No"] }}""",
    retry=RetryPolicy(backoff=Backoff(60.0, jitter=0)),
)


def fan(name: str, policy: str) -> Pipeline:
    """Three branches of tools, of which one fails and one must run once."""
    return Pipeline.parse(
        f"""digraph {name} {{ start; exit; f [shape=component, join_policy={policy}]; j [shape=tripleoctagon];
           start -> f; f -> a -> a2 -> j; f -> b -> j; f -> c -> j; j -> exit;
           a [shape=parallelogram, tool_command="{count("a")}"];
           a2 [shape=parallelogram, effect=once, tool_command="{count("a2")}"];
           b [shape=parallelogram, effect=read, tool_command="{count("b", "exit 3")}"];
           c [shape=parallelogram, effect=once, tool_command="{count("c", "exit 4")}"]; }}"""
    )


branches = fan("branches", "wait_all")
race = fan("race", "first_success")
supervised = Pipeline.load(Path(__file__).with_name("supervised.dot"))
supervised_child = supervised.children[0]
