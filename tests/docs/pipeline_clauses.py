"""`docs/pipelines-conformance.md`: each clause of what pipelines promise, and the tests that hold it.

A test says by `@pytest.mark.clause("id")` which clauses it holds. `python -m tests.docs.pipeline_clauses` writes the
page anew.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "pipelines-conformance.md"
TESTS: Final = ("tests/unit/pipeline", "tests/crash")
INTRODUCTION: Final = """# What pipelines promise, and what holds it

Each clause of the dialect has an id, one sentence and the tests that break when it is broken. The page is made from the
marks of the tests: `python -m tests.docs.pipeline_clauses`. How pipelines are written is told in
[Pipelines](pipelines.md).
"""

CLAUSES: Final[Mapping[str, Mapping[str, str]]] = {
    "Attributes and handler types": {
        "attributes-graph": "A graph's attributes have their defaults.",
        "attributes-node": "A node's attributes have their defaults; some are inherited from the graph.",
        "attributes-edge": "An edge's attributes have their defaults.",
        "attributes-values": "A value that does not fit its attribute is refused.",
        "attributes-inert": "An attribute that nothing reads is reported.",
        "types-shape": "The shape says the handler; a start and an exit also go by their ids.",
        "types-type": "`type` wins over the shape; one that is unknown falls back to `codergen`.",
        "handlers-registered": "Handlers are registered by type.",
    },
    "Life of a run": {
        "transform-order": "`$goal`, stylesheet and own transforms are applied in this order, before the validation.",
        "graph-mirrored": "The graph's attributes stand in the context under `graph`.",
        "stage-cycle": "One stage at a time: entered, outcome written, completed, then the next.",
        "start-exit-stages": "Start and exit are stages like any other.",
        "result-status": "The result says how the run ended.",
        "context-paths": "A dotted key is a path in the context.",
        "context-submitted": "Dotted keys of a submitted context are nested, or the run is refused.",
        "context-conflict": "A write through a value that is no object fails the stage and names the key.",
        "context-outcome": "`outcome` and `preferred_label` are those of the last stage, the exit's included.",
        "edge-order-1": "First come edges whose condition holds: the heaviest, then the first target.",
        "edge-order-2": "Then the first unconditional edge with the preferred label, both normalised.",
        "edge-order-3": "Then an unconditional edge to a suggested node, in their order.",
        "edge-order-4": "Then the heaviest unconditional edge.",
        "edge-order-5": "Of equal ones the first target by name.",
        "edge-false-never": "An edge whose condition is false is never taken.",
        "conditions-grammar": "A condition is clauses joined by `&&`: `=`, `!=` or a bare key; nothing else is one.",
        "conditions-keys": "Keys are the outcome, the preferred label, and paths in the context.",
        "conditions-compare": "Values compare as text, exactly; a missing key is empty.",
        "gate-visited": "Each visited goal gate counts at the exit, one in a branch too; others do not.",
        "gate-satisfied": "The newest visit of a gate must have ended in success or partial success.",
        "gate-jump": "Else the run jumps back, for one gate after the other.",
        "gate-targets": "The jump goes to the node's two targets, then to the graph's two.",
        "gate-fails": "Without a target the run fails and names the gate.",
        "gate-limit": "Redirects are bounded for each gate.",
        "gate-restart": "What gates came to, and how often they sent back, holds over a restart.",
        "retry-count": "A stage is executed once and `max_retries` times again: the node's, the graph's, else none.",
        "retry-delay": "The delay grows by the factor up to 60 s and is spread between a half and one and a half.",
        "retry-presets": "There are five presets, each with attempts, first delay and factor.",
        "retry-allow-partial": "With `allow_partial`, retries that are used up end in a partial success.",
        "retry-after": "A `Retry-After` is waited for inside the execution.",
        "retry-one-policy": "A stage has one policy of retries.",
        "retry-deterministic": "What fails for good is not executed again.",
        "retry-restart": "Executions and their delays are counted over a restart.",
        "failure-routing": "A failure takes any eligible edge, then the node's two targets, then the run ends.",
        "outcome-fields": "An outcome has a status, a label, suggestions, updates, notes and a reason.",
        "handler-exception": "An exception of a handler is a failed outcome.",
        "bounds-steps": "Stages of a run are bounded, those in branches included.",
        "bounds-visits": "Visits of a node are bounded by the node or the graph.",
        "bounds-restart": "The bounds are counted over a restart.",
        "definition-pinned": "A run whose file changed is parked.",
        "overhead-flat": "The ten-thousandth visit writes as much as the hundredth.",
        "overhead-small": "Two hundred stages take less than a megabyte.",
        "crash-matrix": "Killed at any instant, a run ends as if nothing had happened.",
    },
    "Models": {
        "codergen-prompt": "The prompt with `$goal` expanded is asked, else the label, of the stage's model.",
        "codergen-answer": "The answer is an outcome or text; `last_stage` and `last_response` (200) are kept.",
        "codergen-artifacts": "Prompt, response and status are kept.",
        "codergen-simulated": "Without a backend answers are simulated, and the run says so.",
        "codergen-timeout": "A stage may bound how long its model takes.",
        "codergen-restart": "A model that answered is not asked again after a restart.",
        "fidelity-values": "Each fidelity tells so much at most.",
        "fidelity-order": "The fidelity is the edge's, the node's, the graph's, else `compact`.",
        "thread-order": "The thread is the edge's, the node's, the graph's, the subgraph's, else the previous node's.",
        "thread-restart": "After a restart a thread is as whole as before.",
        "stylesheet-selectors": "Selectors are `*`, shape, `.class` and `#id`; a node without a shape is a box.",
        "stylesheet-order": "The more specific rule wins, then the later one; an explicit attribute wins over all.",
        "stylesheet-syntax": "Three properties are known, and the last `;` may be missing.",
        "stylesheet-applied": "What the stylesheet says is what models are asked with.",
    },
    "Gates for people": {
        "human-question": "The question is the prompt or label; choices are the edges in the file's order.",
        "human-keys": "Keys are accelerators as written, else first letters, and unique.",
        "human-conditional": "An edge whose condition does not hold is no choice.",
        "human-edge": "The chosen edge is followed, whatever the order of edges says.",
        "human-context": "The key, the label and the answer of each gate are kept in the context.",
        "human-refused": "An answer that is no choice is refused, and the question stays open.",
        "human-declined": "The only choice of a gate can be declined: the gate fails, and is not asked again.",
        "human-text": "A gate may ask for text.",
        "human-multiple": "A gate may take several choices.",
        "human-timeout": "After the timeout the default is taken, by key, label or target.",
        "human-fail-closed": "Without a default the gate fails, and no edge that was offered is followed.",
        "human-wait": "A gate waits over restarts and is not asked again.",
    },
    "Routing points, fan-outs and fan-ins": {
        "conditional-passes": "A diamond passes the outcome before it on, and is never retried.",
        "parallel-branches": "Each edge is a branch, which routes like a run and may hold gates and fan-outs.",
        "parallel-joins": "Branches end at the fan-in that they share; without one the pipeline is refused.",
        "parallel-max": "No more branches run at once than `max_parallel` (4).",
        "parallel-clone": "Branches have clones of the context, which are dropped at the join.",
        "parallel-results": "`parallel.results` tells id, outcome, output, updates and score of each branch.",
        "parallel-wait-all": "`wait_all` is a success, or partial if any failed.",
        "parallel-first-success": "`first_success` cancels the others.",
        "parallel-k-of-n": "`k_of_n` needs `quorum` successes.",
        "parallel-never-blocks": "The fan-in is reached whatever the branches came to.",
        "parallel-restart": "A restart in the middle of branches repeats nothing.",
        "fan-in-ranking": "Branches rank by status, score and id.",
        "fan-in-model": "With a prompt the model ranks.",
        "fan-in-sets": "The best branch and its outcome are kept.",
        "fan-in-fails": "A fan-in fails only when every branch failed.",
    },
    "Commands": {
        "tool-output": "What a command prints is kept, decoded with replacement and bounded.",
        "tool-exit": "An exit code other than 0 is a failed outcome.",
        "tool-group": "A timeout and a cancel kill the whole process group.",
        "tool-known": "An exit code, a timeout and a cancel are known outcomes; `max_retries` repeats any kind.",
        "tool-idempotent": "A command in flight at a crash runs again under the same key.",
        "tool-read": "A command that reads runs again.",
        "tool-once": "A command that must run once is in doubt: `ask`, `fail` or `retry`.",
        "tool-argv": "A command may be a list of arguments.",
        "tool-off": "Commands can be switched off.",
        "tool-directory": "Commands run in the directory in which the run began.",
        "tool-environment": "A command is told its run, node and key, and no secret of the environment.",
        "stage-files": "Files of the stage directory become artifacts, bounded in number and size.",
        "status-json": "A `status.json` is the stage's outcome, by either word; the one that is kept has both.",
        "auto-status": "`auto_status` supplies the success that a handler did not write.",
        "artifact-paths": "Artifacts lie under the node and its visit.",
    },
    "Supervised children and restarted loops": {
        "manager-child": "The child is a run of its own; its end ends the stage at once, with its outcome.",
        "manager-observe": "Observing keeps the child's id, status, outcome and node in the context.",
        "manager-steer": "Steering sends the prompt to the child as a signal.",
        "manager-stop": "The loop ends when its condition holds.",
        "manager-bounds": "Cycles are bounded.",
        "manager-cancel": "A cancel goes down to the child.",
        "manager-restart": "A restart starts no second child.",
        "loop-restart": "An edge with `loop_restart` begins anew at its target with only `graph` in the context.",
    },
    "Validation": {
        "diagnostics": "A diagnostic has a rule, a severity, a message and its place.",
        "errors-refuse": "Errors refuse a pipeline; warnings do not.",
        "rules-added": "Rules can be added.",
        "rule-parse_error": "A syntax error is a diagnostic.",
        "rule-start_node": "There is exactly one start.",
        "rule-terminal_node": "There is exactly one exit.",
        "rule-reachability": "Every node can be reached.",
        "rule-start_no_incoming": "Nothing leads into the start.",
        "rule-exit_no_outgoing": "Nothing leads out of the exit.",
        "rule-condition_syntax": "A condition that cannot be read is refused.",
        "rule-stylesheet_syntax": "A stylesheet that cannot be read is refused.",
        "rule-edge_target_exists": "An undeclared target is warned of and becomes a box.",
        "rule-type_known": "An unknown type is warned of.",
        "rule-fidelity_valid": "An unknown fidelity is warned of.",
        "rule-retry_target_exists": "A retry target that is no node is warned of.",
        "rule-goal_gate_has_retry": "A goal gate without a target is warned of.",
        "rule-prompt_on_llm_nodes": "A model's task without a prompt or label is warned of.",
        "rule-all_conditional_edges": "Conditions that leave an outcome out are warned of.",
        "rule-terminal_condition_edge": "A failure that can reach the exit unseen is warned of.",
    },
    "Rulings": {
        "ruling-retried": "A failed stage is retried, a deterministic failure is not.",
        "ruling-diamond": "A diamond returns the outcome before it.",
        "ruling-failed-unconditional": "An unconditional edge is followed after a failure, and the result says so.",
        "ruling-no-eligible-edge": "Without an eligible edge the run fails and says so.",
        "ruling-after-parallel": "After a fan-out the run goes on at the fan-in; no branch runs twice.",
        "ruling-exit": "The exit is executed and checkpointed.",
        "ruling-gates-resumed": "After a resume a passed gate stays passed.",
        "ruling-refused-answer": "Nothing is ever approved by default.",
        "ruling-thread-fidelity": "The edge wins over the node for thread and fidelity.",
        "ruling-unbounded": "Loops are bounded, each bound with an error of its own.",
        "ruling-running-at-crash": "Finished steps of a stage that ran at a crash are kept; others follow their kind.",
    },
}


def files_of_tests() -> Iterator[Path]:
    """The files that may hold marked tests."""
    for folder in TESTS:
        yield from sorted((ROOT / folder).rglob("test_*.py"))


def marks_of(node: ast.expr) -> Iterator[str]:
    """The clauses that a decorator names."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.clause":
        for one in node.args:
            assert isinstance(one, ast.Constant), ast.unparse(node)
            yield str(one.value)


def holders() -> dict[str, list[tuple[Path, str]]]:
    """By clause the tests that hold it."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in files_of_tests():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for clause in (clause for decorator in node.decorator_list for clause in marks_of(decorator)):
                    found.setdefault(clause, []).append((path.relative_to(ROOT), node.name))
    return found


def rendered() -> str:
    """The page."""
    held, lines = holders(), [INTRODUCTION]
    for section, clauses in CLAUSES.items():
        lines += [f"## {section}\n", "| clause | what it says | tests |", "|---|---|---|"]
        for clause, sentence in clauses.items():
            tests = "<br>".join(f"[{_told(name)}](../{path})" for path, name in held.get(clause, []))
            lines.append(f"| `{clause}` | {sentence} | {tests} |")
        lines.append("")
    return "\n".join(lines)


def _told(name: str) -> str:
    """A test's name as a sentence."""
    return name.removeprefix("test_").replace("_", " ")


if __name__ == "__main__":
    PAGE.write_text(rendered())
