"""Which handler executes which type of stage."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

from perdure.core.errors import DefinitionError
from perdure.core.ids import check_name
from perdure.pipeline.handler_types import BUILT_IN
from perdure.pipeline.stage import Handler

H = TypeVar("H", bound=Callable[..., Any])


class Handlers(Mapping[str, Handler]):
    """Handlers by type.

    Args:
        handlers: to begin with.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)

    def __call__(self, type: str) -> Callable[[H], H]:
        """Register an async function of a `Stage` as the handler of a type.

        Args:
            type: as a node's `type` attribute names it.

        Raises:
            DefinitionError: the type is one of the dialect's own, or the function is not async.
            InvalidIdError: the type is outside its grammar.
        """
        check_name(type, field="handler type")
        if type in BUILT_IN:
            raise DefinitionError(f"the handler {type!r} belongs to the dialect", hint="register it by another type")

        def register(fn: H) -> H:
            """Register the function."""
            if not inspect.iscoroutinefunction(fn):
                raise DefinitionError(f"the handler of {type!r} must be an async function")
            self._handlers[type] = cast("Handler", fn)
            return fn

        return register

    def types(self) -> list[str]:
        """All types, sorted."""
        return sorted(self._handlers)

    def __getitem__(self, type: str) -> Handler:
        return self._handlers[type]

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)
