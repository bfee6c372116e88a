"""What makes a plan valid: every problem is found, each with a code of its own.

Of the plan: `plan_empty`, `mode_invalid`, `limit_invalid`, `output_missing`, `tag_dangling` (a skip tag that no state
bears), `plan_cycle`, `input_type`, `input_parameter_invalid`, `input_conflict` (two states take a parameter of one name
and different types).

Of a state: `state_id_invalid`, `state_duplicate`, `edge_target_missing`, `edge_self`, `edge_duplicate`, `tag_invalid`,
`recovery_invalid`, `not_a_function`, `signature_generator`, `signature_positional_only`, `signature_var_positional`,
`signature_var_keyword`, `kind_missing` (a function that does not take the run alone has no kind), `kind_invalid`,
`step_redefined` (a `Step` is given a kind or options), `option_unknown`, `option_without_kind`, `parameter_unknown`,
`parameter_unfilled`, and what `@step` refuses (`invalid_policy`, `invalid_duration`, `invalid_id`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args

from perdure.core.errors import InvalidIdError, PerdureError, Problem
from perdure.core.ids import check_tag
from perdure.core.policies import KINDS, Idempotent
from perdure.workflow.graph import as_problem, skip_tag_problems
from perdure.workflow.inputs import Parameter, parameters_of_function, parameters_of_type
from perdure.workflow.signature import function_problems, named_parameter_problems, signature_of, takes_run_alone
from perdure.workflow.steps import Step
from perdure.workflow.steps import step as make_step
from perdure.workflow.topology import MODES, find_cycles

if TYPE_CHECKING:
    from perdure.workflow.plan import Plan, State

SEGMENT: Final = r"[a-z][a-z0-9_]{0,62}"
STATE_ID: Final = re.compile(rf"{SEGMENT}\.{SEGMENT}\.{SEGMENT}")


@dataclass(slots=True)
class CheckedPlan:
    """What checking a plan found.

    Args:
        problems: all of them.
        steps: by state id, the step that the state is.
        parameters: of the plan.
    """

    problems: list[Problem] = field(default_factory=list)
    steps: dict[str, Step[..., Any]] = field(default_factory=dict)
    parameters: list[Parameter] = field(default_factory=list)


def check_plan(plan: Plan) -> CheckedPlan:
    """Find all that is wrong with a plan."""
    found = CheckedPlan()
    found.problems += _plan_problems(plan)
    found.parameters, problems = parameters_of_type(plan.input)
    found.problems += problems
    ids = {state.id for state in plan.states}
    for state in plan.states:
        found.problems += _id_problems(state) + _edge_problems(state, ids) + _option_problems(state)
        step, problems = _step_of(state)
        found.problems += problems
        if step is not None:
            found.steps[state.id] = step
            _fill_parameters(found, state, step, infer=plan.input is None)
    found.problems += _cycle_problems(plan.states, ids)
    return found


def _plan_problems(plan: Plan) -> list[Problem]:
    problems = [] if plan.states else [Problem("plan_empty", "it has no states")]
    if plan.mode not in MODES:
        problems.append(Problem("mode_invalid", f"mode {plan.mode!r} is none of {', '.join(MODES)}"))
    if type(plan.limit) is not int or plan.limit < 1:
        problems.append(Problem("limit_invalid", f"limit must be a whole number from 1 up, not {plan.limit!r}"))
    if plan.output is not None and all(state.id != plan.output for state in plan.states):
        message = f"the output is that of {plan.output!r}, which does not exist"
        problems.append(Problem("output_missing", message, (str(plan.output),)))
    counted = Counter(state.id for state in plan.states)
    problems += [
        Problem("state_duplicate", f"{count} states have the id {one!r}", (one,))
        for one, count in counted.items()
        if count > 1
    ]
    return problems + skip_tag_problems(plan.skip_tags, {tag for state in plan.states for tag in state.tags})


# --- one state --------------------------------------------------------------------------------------------------------


def _id_problems(state: State) -> list[Problem]:
    problems = []
    if STATE_ID.fullmatch(state.id) is None:
        message = f"state id {state.id!r} is not <machine>.<step>.<state>, each matching {SEGMENT}"
        problems.append(Problem("state_id_invalid", message, (str(state.id),)))
    for tag in state.tags:
        try:
            check_tag(tag)
        except InvalidIdError as error:
            problems.append(Problem("tag_invalid", f"state {state.id!r}: {error.message}", (state.id, str(tag))))
    return problems


def _edge_problems(state: State, ids: set[str]) -> list[Problem]:
    problems = []
    for target, count in Counter(state.after).items():
        if count > 1:
            message = f"state {state.id!r} names {target!r} {count} times in after="
            problems.append(Problem("edge_duplicate", message, (state.id, str(target))))
    for target in state.dependencies:
        if target == state.id:
            problems.append(Problem("edge_self", f"state {state.id!r} depends on itself", (state.id,)))
        elif target not in ids:
            message = f"state {state.id!r} depends on {target!r}, which does not exist"
            problems.append(Problem("edge_target_missing", message, (state.id, str(target))))
    return problems


def _option_problems(state: State) -> list[Problem]:
    from perdure.workflow.plan import Recovery, StepOptions

    problems = []
    if state.recovery not in get_args(Recovery):
        message = f"state {state.id!r}: recovery {state.recovery!r} is none of {', '.join(get_args(Recovery))}"
        problems.append(Problem("recovery_invalid", message, (state.id,)))
    for name in state.options:
        if name not in StepOptions.__annotations__:
            message = f"state {state.id!r} has no option {name!r}"
            problems.append(Problem("option_unknown", message, (state.id, name)))
    if isinstance(state.fn, Step) and (state.kind is not None or state.options):
        message = f"state {state.id!r} is a step already: its kind and options stand where it is declared"
        problems.append(Problem("step_redefined", message, (state.id,)))
    elif state.kind is None and state.options and not isinstance(state.fn, Step):
        message = f"state {state.id!r} has options of a step, but no kind"
        problems.append(Problem("option_without_kind", message, (state.id,)))
    return problems


def _step_of(state: State) -> tuple[Step[..., Any] | None, list[Problem]]:
    """The step that a state is, or `None` for code, and what is wrong with its function."""
    fn = state.author_function
    problems = function_problems(fn, f"state {state.id!r}")
    if problems:
        return None, [one._replace(subject=(state.id,)) for one in problems]
    if isinstance(state.fn, Step):
        return state.fn, problems
    if state.kind is None:
        return None, problems + _code_problems(state)
    if not isinstance(state.kind, Idempotent) and state.kind not in KINDS:
        message = f"state {state.id!r}: kind {state.kind!r} is none of {', '.join(KINDS)}"
        return None, [*problems, Problem("kind_invalid", message, (state.id,))]
    try:
        return _made_step(state), problems
    except PerdureError as error:
        return None, [*problems, as_problem(error, state.id)]


def _made_step(state: State) -> Step[..., Any]:
    from perdure.workflow.plan import StepOptions

    known: Mapping[str, Any] = {name: one for name, one in state.options.items() if name in StepOptions.__annotations__}
    assert state.kind is not None
    name = state.id.rpartition(".")[2] if state.fn.__name__ == "<lambda>" else None
    return make_step(kind=state.kind, name=name, **known)(state.fn)


def _code_problems(state: State) -> list[Problem]:
    first = next(iter(signature_of(state.fn).parameters.values()), None)
    is_run = first is not None and (first.name == "run" or _text(first.annotation).endswith("Run"))
    if not is_run or not takes_run_alone(state.fn):
        message = f"state {state.id!r} has no kind, so its function must take `run` and nothing else"
        return [Problem("kind_missing", message, (state.id,))]
    message = f"state {state.id!r} takes the run alone, and reads outputs there; it has no parameter"
    return [Problem("parameter_unknown", f"{message} {name!r}", (state.id, name)) for name in state.inputs]


def _text(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


# --- the parameters of steps ------------------------------------------------------------------------------------------


def _fill_parameters(found: CheckedPlan, state: State, step: Step[..., Any], *, infer: bool) -> None:
    signature = signature_of(step.fn).parameters
    label = f"state {state.id!r}"
    unnamed = named_parameter_problems(signature.values(), label)
    found.problems += unnamed
    for name in state.inputs:
        if name not in signature:
            found.problems.append(Problem("parameter_unknown", f"{label} has no parameter {name!r}", (state.id, name)))
    skipped = {name for problem in unnamed for name in problem.subject}
    for parameter in parameters_of_function(step.fn, skip=0):
        if parameter.name in state.inputs or parameter.name in skipped:
            continue
        if infer:
            _infer_parameter(found, state, parameter)
        elif parameter.required and all(one.name != parameter.name for one in found.parameters):
            message = f"{label}: parameter {parameter.name!r} is neither in the plan's input nor in inputs="
            found.problems.append(Problem("parameter_unfilled", message, (state.id, parameter.name)))


def _infer_parameter(found: CheckedPlan, state: State, parameter: Parameter) -> None:
    """Make a parameter of a step one of the plan's; it is required if any state requires it."""
    names = [known.name for known in found.parameters]
    if parameter.name not in names:
        found.parameters.append(parameter)
        return
    place = names.index(parameter.name)
    known = found.parameters[place]
    if Any not in (known.declared, parameter.declared) and known.declared != parameter.declared:
        message = f"parameter {parameter.name!r} has another type in state {state.id!r} than in an earlier one"
        found.problems.append(Problem("input_conflict", message, (state.id, parameter.name)))
    declared = parameter.declared if known.declared is Any else known.declared
    stricter = known if known.required or not parameter.required else parameter
    found.parameters[place] = stricter._replace(declared=declared)


def _cycle_problems(states: Sequence[State], ids: set[str]) -> list[Problem]:
    dependencies: dict[str, list[str]] = {}
    for state in states:
        known = [one for one in state.dependencies if one in ids and one != state.id]
        dependencies.setdefault(state.id, []).extend(known)
    return [
        Problem("plan_cycle", f"the states {' -> '.join([*cycle, cycle[0]])} wait for each other", tuple(cycle))
        for cycle in find_cycles(dependencies)
    ]
