"""A run that only remembers what was asked of it, for tests of compiled nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from perdure.workflow.steps import Step


class FakeChild:
    def __init__(self, output: Any) -> None:
        self._output = output

    async def result(self) -> Any:
        return self._output


class FakeArtifact:
    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256


class FakeRun:
    """Answers with what `answers` holds for a call's name; steps are called."""

    def __init__(
        self,
        input: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        answers: Mapping[str, Any] | None = None,
    ) -> None:
        self.input = dict(input or {})
        self.outputs = dict(outputs or {})
        self.answers = dict(answers or {})
        self.state: dict[str, Any] = {}
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.threads = 0

    async def in_thread(self, call: Callable[[Any], Any]) -> Any:
        self.threads += 1
        return call(self)

    async def step(self, step: Step[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.calls.append(("step", (step.name, *args), kwargs))
        kwargs.pop("key", None)
        value = step.fn(*args, **kwargs)
        return await value if hasattr(value, "__await__") else value

    async def spawn(self, workflow: Any, *args: Any, **kwargs: Any) -> FakeChild:
        self.calls.append(("spawn", (workflow, *args), kwargs))
        return FakeChild(self.answers.get("spawn"))

    async def ask(self, *args: Any, **kwargs: Any) -> Any:
        return self._remember("ask", args, kwargs)

    async def wait_for(self, *args: Any, **kwargs: Any) -> Any:
        return self._remember("wait_for", args, kwargs)

    async def sleep(self, *args: Any, **kwargs: Any) -> None:
        self._remember("sleep", args, kwargs)

    async def sleep_until(self, *args: Any, **kwargs: Any) -> None:
        self._remember("sleep_until", args, kwargs)

    def emit(self, *args: Any, **kwargs: Any) -> None:
        self._remember("emit", args, kwargs)

    def put(self, *args: Any, **kwargs: Any) -> FakeArtifact:
        self._remember("put", args, kwargs)
        return FakeArtifact("5a")

    def _remember(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.calls.append((name, args, kwargs))
        return self.answers.get(name)
