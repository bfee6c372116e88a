"""The parameters of a workflow: how its input is bound, recorded, checked and read back.

The *raw* input is what the caller gave, by parameter name. Defaults belong to today's code, not to the call, so they
are never recorded; they are filled in when the input is read.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from perdure.core.canonical import canonical
from perdure.core.errors import InputTypeError, Problem, ValueRefusedError
from perdure.core.values import Codec, codec_for
from perdure.workflow.signature import describe_object, is_required, signature_of
from perdure.workflow.steps import type_hints

REQUIRED: Final = dataclasses.MISSING

InputType = Mapping[str, Any] | type[Any]
"""How a flow or plan declares its input: types by parameter name, or a dataclass whose fields are the parameters."""


class Parameter(NamedTuple):
    """One parameter of a workflow.

    Args:
        name: by which it is passed.
        declared: its type.
        default: taken where it is not given; `REQUIRED` if it must be.
        factory: makes the default instead.
    """

    name: str
    declared: Any = Any
    default: Any = REQUIRED
    factory: Any = REQUIRED

    @property
    def required(self) -> bool:
        """Whether the input must have it."""
        return self.default is REQUIRED and self.factory is REQUIRED

    def fill(self) -> Any:
        """The default, never the same mutable object twice."""
        return copy.deepcopy(self.default) if self.factory is REQUIRED else self.factory()


class Inputs:
    """The parameters of a workflow.

    Args:
        owner: the workflow's name; errors name it.
        parameters: in their order.
        fill: `load` fills defaults in. Otherwise the call of the author's function does.
    """

    def __init__(self, owner: str, parameters: Iterable[Parameter], *, fill: bool) -> None:
        self.owner = owner
        self.parameters = {parameter.name: parameter for parameter in parameters}
        self.names = tuple(self.parameters)
        self._fill = fill
        self._codecs: dict[str, Codec[Any]] = {
            name: codec_for(parameter.declared) for name, parameter in self.parameters.items()
        }

    # --- from the caller's side ---------------------------------------------------------------------------------------

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by parameter name, as given.

        Args:
            args: taken in the order of the parameters.
            kwargs: taken by name.

        Raises:
            InputTypeError: an argument is missing, unknown, given twice, or there are too many.
        """
        if len(args) > len(self.names):
            raise self._refuse(f"takes {len(self.names)} arguments, {len(args)} were given")
        raw = dict(zip(self.names, args, strict=False))
        for name, value in kwargs.items():
            if name in raw:
                raise self._refuse(f"{name!r} is given twice", name)
            raw[name] = value
        self._check_names(raw)
        return raw

    def dump(self, raw: Mapping[str, Any]) -> bytes:
        """Canonical JSON of a raw input, by the declared types.

        Raises:
            InputTypeError, ValueRefusedError: a value does not fit its type or cannot be recorded.
        """
        self._check_names(raw)
        return canonical({name: self._codecs[name].tree(value, f"$.{name}") for name, value in raw.items()})

    def check(self, tree: object) -> dict[str, Any]:
        """Raw input from untyped JSON (a command line, an HTTP body): every member validated by its declared type.

        Args:
            tree: parsed JSON; `None` stands for no input.

        Raises:
            InputTypeError: it is no object, or a member is missing, unknown or of another type.
        """
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            raise self._refuse(f"takes an object of named values, not {describe_object(tree)}")
        self._check_names(tree)
        return {name: self._codecs[name].check_input(value, f"$.{name}") for name, value in tree.items()}

    def _check_names(self, raw: Mapping[str, Any]) -> None:
        unknown = [name for name in raw if name not in self.parameters]
        if unknown:
            known = ", ".join(self.names) or "none"
            raise self._refuse(f"has no parameter {unknown[0]!r} (parameters: {known})", unknown[0])
        missing = [name for name, one in self.parameters.items() if one.required and name not in raw]
        if missing:
            raise self._refuse(f"{', '.join(map(repr, missing))} missing", missing[0])

    def _refuse(self, message: str, parameter: str | None = None) -> InputTypeError:
        return InputTypeError(f"input of {self.owner!r}: {message}", workflow=self.owner, parameter=parameter)

    # --- from the run's side ------------------------------------------------------------------------------------------

    def load(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The input from its recorded form.

        Args:
            tree: the parsed JSON that `dump` wrote.

        Raises:
            InputTypeError, ValueRefusedError: it does not validate against the declared types any more.
        """
        self._check_names(tree)
        loaded = {name: self._codecs[name].load_json(value) for name, value in tree.items()}
        if self._fill:
            for name, parameter in self.parameters.items():
                if name not in loaded:
                    loaded[name] = parameter.fill()
        return loaded

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the input: an object without further members. Loads pydantic.

        A parameter whose type has no schema admits anything there; `check` is what decides.
        """
        definitions: dict[str, Any] = {}
        properties = {}
        for name, codec in self._codecs.items():
            one = _lift_definitions(codec, definitions)
            default = self._recorded_default(name)
            properties[name] = one if default is REQUIRED else one | {"default": default}
        schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        required = [name for name, parameter in self.parameters.items() if parameter.required]
        return schema | ({"required": required} if required else {}) | ({"$defs": definitions} if definitions else {})

    def _recorded_default(self, name: str) -> Any:
        parameter = self.parameters[name]
        if parameter.default is REQUIRED:
            return REQUIRED
        try:
            return self._codecs[name].tree(parameter.default, f"$.{name}")
        except (InputTypeError, ValueRefusedError):  # a sentinel of the author's; it never leaves the function
            return REQUIRED


def _lift_definitions(codec: Codec[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one parameter; what it refers to moves to the top, where references look for it."""
    try:
        schema: dict[str, Any] = dict(codec.schema())
    except ValueRefusedError:
        return {}
    own: dict[str, Any] = dict(schema.pop("$defs", {}))
    names = {}
    for name, one in own.items():
        other = name
        while definitions.get(other, one) != one:  # two classes of one name
            other += "_"
        names[name] = other
    text = json.dumps([schema, own])
    for name, other in names.items():
        text = text.replace(f'"#/$defs/{name}"', f'"#/$defs/{other}"')
    renamed, own = json.loads(text)
    definitions.update({names[name]: one for name, one in own.items()})
    return dict(renamed)


# --- where parameters come from ---------------------------------------------------------------------------------------


def parameters_of_function(fn: Callable[..., Any], *, skip: int) -> list[Parameter]:
    """The parameters of a function.

    Args:
        fn: the function.
        skip: how many leading ones do not count (the run).
    """
    hints = type_hints(fn)
    found = list(signature_of(fn).parameters.values())[skip:]
    return [
        Parameter(one.name, hints.get(one.name, Any), REQUIRED if is_required(one) else one.default) for one in found
    ]


def output_of_function(fn: Callable[..., Any]) -> Any:
    """The declared return type of a function, `Any` if there is none."""
    return type_hints(fn).get("return", Any)


def parameters_of_type(given: InputType | None) -> tuple[list[Parameter], list[Problem]]:
    """The parameters that a flow or plan declares.

    Args:
        given: types by parameter name (all required), or a dataclass whose fields are the parameters. A field's
            default factory must give the same value each time: it is called whenever the input is read.

    Returns:
        The parameters, and what is wrong with the declaration (codes `input_type`, `input_parameter_invalid`).
    """
    declared: object = given
    if declared is None:
        return [], []
    if isinstance(declared, Mapping):
        parameters = [Parameter(name, one) for name, one in declared.items()]
    elif isinstance(declared, type) and dataclasses.is_dataclass(declared):
        hints = type_hints(declared)
        parameters = [
            Parameter(one.name, hints.get(one.name, Any), one.default, one.default_factory)
            for one in dataclasses.fields(declared)
            if one.init
        ]
    else:
        message = f"input= takes types by name or a dataclass, not {describe_object(declared)}"
        return [], [Problem("input_type", message)]
    problems = []
    for parameter in parameters:
        name: object = parameter.name
        if not isinstance(name, str) or not name.isidentifier():
            message = f"input parameter {name!r} is no Python name"
            problems.append(Problem("input_parameter_invalid", message, (str(name),)))
    return parameters, problems
