"""Rules of section 3: what people and other systems bring may not have the shape of a secret; and what a step that
declared one gives is redacted after a restart too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, RunHandle, Runtime, Secret, current_step, step, workflow
from perdure.core.errors import SecretLeakError
from tests.unit.engine.evidence import recovered, witnessed
from tests.unit.engine.staging import events_of, kinds, memory, on_disk, reaches

pytestmark = pytest.mark.time_limit(20)

# Put together here, so that no scanner takes this file for one that holds secrets.
SHAPES = {
    "pem_private_key": "-----BEGIN " + "PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 4 + "\n-----END",
    "sk_key": "sk-" + "a1B2c3D4" * 5,
    "aws_access_key": "AKIA" + "IOSFODNN7EXAMPLE",
    "github_token": "ghp_" + "a1B2c3" * 6,
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0" + ".abcdefghijklmnopqrstuvwxyz012345",
    "url_credentials": "postgres://user:" + "hunter22@db.example.com/x",
}


@step(kind="once")
async def pay() -> Any:
    raise ConnectionError("no answer")


@workflow
async def waits(run: Run, note: Any = None) -> list[Any]:
    return await run.gather(run.ask("Well?"), run.wait_for("price"), run.step(pay))


@workflow
async def takes(run: Run, value: Any) -> Any:
    return value


BROUGHT: dict[str, Callable[[Runtime, RunHandle[Any], str], Any]] = {
    "an answer": lambda runtime, handle, text: handle.answer(text),
    "a signal": lambda runtime, handle, text: handle.signal("price", {"deep": [{"in": f"around {text} it"}]}),
    "a key": lambda runtime, handle, text: handle.signal("price", {text: 1}),
    "a signal without a run": lambda runtime, handle, text: runtime.signal("price", text),
    "a resolution": lambda runtime, handle, text: runtime.resolve(handle.id, "done", value=[text]),
    "an input": lambda runtime, handle, text: runtime.start(takes, {"deep": [text]}),
    "an input by name": lambda runtime, handle, text: runtime.start_bound("takes", {"value": text}),
}


@pytest.mark.parametrize("what", BROUGHT)
@pytest.mark.parametrize("shape", SHAPES)
async def test_3_what_is_brought_with_the_shape_of_a_secret_is_refused_and_nothing_is_written(
    shape: str, what: str
) -> None:
    async with witnessed(memory(), waits, takes) as runtime:
        handle = await runtime.start(waits)
        await reaches(handle, "waiting")
        before = await kinds(handle)
        with pytest.raises(SecretLeakError) as refused:
            await BROUGHT[what](runtime, handle, SHAPES[shape])
        assert refused.value.code == "secret_shape"
        assert shape in refused.value.message
        assert SHAPES[shape] not in str(refused.value)
        assert await kinds(handle) == before
        assert len(await runtime.runs()) == 1
        await handle.answer("well")  # it can be put right
        await handle.signal("price", "the secret password token")
        await runtime.resolve(handle.id, "done", value="paid")
        assert await handle.result() == ["well", "the secret password token", "paid"]


# Nothing that a detector would find by its shape.
CANARY = "canary" + "-7391-not-a-shape"


@step(kind="read")
async def reveal(secret: Secret) -> str:
    return current_step().reveal(secret)


@step(kind="read")
async def echo() -> dict[str, str]:
    """The other side repeats what it was once given."""
    return {"you said": CANARY}


@step(kind="idempotent")
async def fails() -> None:
    raise ValueError(f"wrong key: {CANARY}")


async def test_3_a_result_that_is_recorded_after_a_restart_is_redacted_of_what_was_revealed_before_it(
    tmp_path: Path,
) -> None:
    """The step that revealed it is not called again: its fact keeps the reference, and not the value."""

    @workflow
    async def main(run: Run) -> list[Any]:
        await run.step(reveal, Secret("env:CANARY"))
        await run.wait_for("go")
        said = await run.step(echo)
        try:
            await run.step(fails)
        except Exception as error:
            return [said, str(error)]
        return []

    store = on_disk(tmp_path / "runs.db")
    async with recovered(store, main, main, options={"environ": {"CANARY": CANARY}}) as (_, handle):
        (fact,) = await events_of(handle, "step.completed")
        assert fact.data["secrets"] == ["env:CANARY"]
        await handle.signal("go")
        said, failure = await handle.result()
        assert said == {"you said": "[secret env:CANARY]"}
        assert failure.endswith("wrong key: [secret env:CANARY]")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes()
