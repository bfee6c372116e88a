"""Rules of section 3: secrets are references; declared values reach no journal, artifact, log or stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from perdure import Backoff, Run, RunHandle, Runtime, Secret, StepFailed, current_step, step, workflow
from perdure.core.errors import PerdureError, SecretLeakError, StateError, StepResultError
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import check_journals, recovered, witnessed
from tests.unit.engine.staging import Ledger, die, events_of, journal, kinds, on_disk, opened, reaches, seen

pytestmark = pytest.mark.time_limit(30)

# With what JSON escapes, so that each way to write it is looked for.
CANARY = 'canary "tweet\\tweet" ü-0123456789'
PLAIN = "canary-0123456789-plain"
ENVIRON = {"CANARY": CANARY, "PLAIN": PLAIN, "PIN": "73911073"}
FORMS = [
    *(form.encode() for form in (CANARY, PLAIN)),
    orjson.dumps(CANARY)[1:-1],
    orjson.dumps(orjson.dumps(CANARY).decode())[1:-1],
    b'canary \\"tweet\\\\tweet\\" \\u00fc-0123456789',
]


def leaks_in(folder: Path) -> list[str]:
    """Where the values stand in the files of a store, its write-ahead log included."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found += [f"{path.name}: {form!r}" for form in FORMS if form in data]
    return found


@step(kind="read")
async def reveal(secret: Secret) -> int:
    return len(current_step().reveal(secret))


# --- references -------------------------------------------------------------------------------------------------------


async def test_3_a_secret_is_a_reference_that_is_resolved_inside_the_step() -> None:
    given: list[Any] = []

    @step(kind="idempotent")
    async def use(secret: Secret, more: list[Secret]) -> str:
        given.extend([secret, *more])
        info = current_step()
        return "same" if info.reveal(secret) == CANARY and info.reveal(more[0]) == PLAIN else "other"

    @workflow
    async def main(run: Run, secret: Secret) -> str:
        try:
            current_step()
        except StateError:
            return await run.step(use, secret, [Secret("env:PLAIN")])
        return "a step outside a step"

    async with witnessed(MemoryStore(), main, environ=ENVIRON) as runtime:
        handle = await runtime.start(main, Secret("env:CANARY"))
        assert await handle.result() == "same"
        (started,) = await events_of(handle, "run.started")
        (intent,) = await events_of(handle, "step.intended")
    assert given == [Secret("env:CANARY"), Secret("env:PLAIN")]
    assert started.data["input"] == {"secret": {"$secret": "env:CANARY"}}
    assert intent.data["input"] == {"more": [{"$secret": "env:PLAIN"}], "secret": {"$secret": "env:CANARY"}}


async def test_3_a_secret_that_cannot_be_resolved_is_an_error_of_the_step(tmp_path: Path) -> None:
    @workflow
    async def main(run: Run) -> list[str]:
        found = []
        for reference in ("env:NOTHING", f"file:{tmp_path}/nothing"):
            try:
                await run.step(reveal, Secret(reference))
            except StepFailed as error:
                found.append(error.error_code)
        return found

    async with witnessed(MemoryStore(), main, environ=ENVIRON) as runtime:
        assert await (await runtime.start(main)).result() == ["secret_unresolved"] * 2


async def test_3_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY + "\n")

    @step(kind="read")
    async def use(secret: Secret) -> str:
        return current_step().reveal(secret)

    @workflow
    async def main(run: Run) -> str:
        return await run.step(use, Secret(f"file:{path}"))

    async with witnessed(MemoryStore(), main, environ={}) as runtime:
        assert await (await runtime.start(main)).result() == f"[secret file:{path}]"


# --- nowhere ----------------------------------------------------------------------------------------------------------


async def test_3_user_code_sees_the_redacted_result_live_and_replayed() -> None:
    seen_values: list[Any] = []

    @step(kind="read")
    async def leak(secret: Secret) -> dict[str, Any]:
        value = current_step().reveal(secret)
        return {"plain": value, "inside": f"<{value}>", value: [value.encode()], "large": value * 3000}

    @workflow
    async def main(run: Run) -> None:
        seen_values.append(await run.step(leak, Secret("env:CANARY")))
        await run.wait_for("go")

    async with recovered(MemoryStore(), main, main, options={"environ": ENVIRON}) as (_, handle):
        await handle.signal("go")
        await handle.result()
    label = "[secret env:CANARY]"
    assert seen_values[0] == seen_values[1]
    assert seen_values[0]["plain"] == label
    assert seen_values[0]["inside"] == f"<{label}>"
    assert seen_values[0][label] == [label.encode()]
    assert seen_values[0]["large"] == label * 3000


async def careless(run: Run, value: str) -> None:
    """The author's code has the value from elsewhere, and hands it to everything that is recorded."""
    large = value * 4000

    @step(kind="idempotent", retries=1, backoff=Backoff(initial_s=0.0))
    async def fails(given: str, more: str) -> None:
        error = ValueError(f"failed with {given}")
        error.details = {"value": given}  # type: ignore[attr-defined]
        raise error

    @step(kind="read")
    async def returns(given: str) -> str:
        return given

    @step(kind="read", raises=KeyError)
    async def raises(given: str) -> None:
        raise KeyError(given)

    @workflow(name="child")
    async def child(run: Run, given: str, more: str) -> str:
        run.emit("in_the_child", given)
        return more

    for called, arguments in ((fails, (value, large)), (raises, (value,))):
        try:
            await run.step(called, *arguments)
        except (StepFailed, KeyError) as error:
            run.emit("caught", str(error))
    await run.step(returns, value)
    await run.step(returns, large)
    run.state["value"] = value
    run.state["large"] = [large]
    run.emit("told", {"value": value, value: [value]})
    run.put(value)
    run.put(value.encode() * 3)
    run.put({"value": large})
    await (await run.spawn(child, value, large)).result()
    await run.ask(f"Is {value} right?", timeout="1ms", default=value)
    await run.wait_for("with_default", timeout="1ms", default=large)
    await run.gather(run.step(returns, value))


@pytest.mark.parametrize("name", ["CANARY", "PLAIN"])
async def test_3_declared_values_reach_no_journal_artifact_log_or_stream(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    value = ENVIRON[name]

    @workflow
    async def main(run: Run, round: int = 0) -> str:
        await run.step(reveal, Secret(f"env:{name}"))
        await careless(run, value)
        if round == 0:
            await run.continue_as(1)
        found = await run.wait_for("signal")
        run.emit("signalled", found)
        answer = await run.ask("Free text?")
        run.emit("answered", answer)
        return f"done with {value}"

    streamed: list[bytes] = []
    caplog.set_level(logging.DEBUG)
    store = on_disk(tmp_path / "runs.db")
    async with Runtime(store, workflows=[main], environ=ENVIRON) as runtime:
        handle = await runtime.start(main)

        async def stream() -> None:
            async for event in handle.events():
                streamed.append(orjson.dumps(event.to_dict()))

        streaming = asyncio.ensure_future(stream())
        await seen(handle, "caught")
        await handle.signal("signal", {"value": value, "large": value * 4000})
        await seen(handle, "signalled")
        await reaches(handle, "waiting")
        await handle.answer(value)
        assert await handle.result() == f"done with [secret env:{name}]"
        await streaming
        other = await runtime.start(fails_with_secret, value)  # a run that begins later is given it as its input
        with pytest.raises(PerdureError) as caught:
            await other.result()
        assert value not in str(caught.value.to_dict())
        assert value not in str(await handle.state())
        assert leaks_in(tmp_path) == []
        await store.compact()
        assert leaks_in(tmp_path) == []
    assert leaks_in(tmp_path) == []
    assert [line for line in streamed for form in FORMS if form in line] == []
    output, errors = capfd.readouterr()
    assert value not in caplog.text + output + errors
    await check_journals(store)


@workflow
async def fails_with_secret(run: Run, value: str) -> None:
    run.emit("given", value)
    raise ValueError(f"it is {value}")


async def test_3_a_value_in_a_doubt_or_a_late_result_is_redacted(tmp_path: Path) -> None:
    async def probe(secret: Secret) -> Any:
        raise RuntimeError(f"the probe has {CANARY}")

    @step(kind="once", in_doubt="probe", probe=probe, timeout="1h")
    async def pay(secret: Secret) -> None:
        raise ConnectionError(f"lost {current_step().reveal(secret)}")

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(pay, Secret("env:CANARY"))
        except StepFailed as error:
            return f"{error.message}"
        return "done"

    store = on_disk(tmp_path / "runs.db")
    async with witnessed(store, main, environ=ENVIRON) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        await runtime.resolve(handle.id, "fail")
        assert CANARY not in await handle.result()
        assert {"step.doubted", "step.noted"} <= set(await kinds(handle))
    assert leaks_in(tmp_path) == []


async def test_3_drift_does_not_show_a_declared_value(tmp_path: Path) -> None:
    def version(number: int) -> Any:
        @workflow(name="main")
        async def main(run: Run) -> None:
            await run.step(reveal, Secret("env:CANARY"))
            run.state["a"] = f"{CANARY} {number}"
            await run.wait_for("go")

        return main

    store = on_disk(tmp_path / "runs.db")
    async with recovered(store, version(1), version(2), options={"environ": ENVIRON}) as (_, handle):
        await handle.signal("go")
        await reaches(handle, "paused")
        assert (await handle.row()).reason == "drift"
    assert leaks_in(tmp_path) == []


@pytest.mark.parametrize("large", [False, True])
async def test_3_what_an_earlier_process_revealed_is_redacted_after_a_restart(large: bool, tmp_path: Path) -> None:
    """The step that revealed it is replayed, not called; and the same value written again is no drift."""
    factor = 4000 if large else 1

    @workflow
    async def main(run: Run) -> str:
        await run.step(reveal, Secret("env:CANARY"))
        run.state["before"] = CANARY * factor
        await run.wait_for("go")
        run.state["after"] = CANARY * factor
        run.emit("told", CANARY)
        return CANARY

    store = on_disk(tmp_path / "runs.db")
    async with recovered(store, main, main, options={"environ": ENVIRON}) as (_, handle):
        await handle.signal("go")
        assert await handle.result() == "[secret env:CANARY]"
        state = await handle.state()
        assert state["before"] == state["after"] == "[secret env:CANARY]" * factor
    assert leaks_in(tmp_path) == []


async def test_3_what_was_revealed_in_an_earlier_generation_is_redacted_after_a_restart(tmp_path: Path) -> None:
    @workflow
    async def main(run: Run, round: int = 0) -> str:
        if round == 0:
            await run.step(reveal, Secret("env:CANARY"))
            await run.continue_as(1)
        await run.wait_for("go")
        run.emit("told", CANARY)
        return CANARY

    store = on_disk(tmp_path / "runs.db")
    async with recovered(store, main, main, options={"environ": ENVIRON}) as (_, handle):
        await handle.signal("go")
        assert await handle.result() == "[secret env:CANARY]"
    assert leaks_in(tmp_path) == []


async def test_3_what_an_attempt_revealed_before_a_crash_is_redacted_after_it(tmp_path: Path) -> None:
    """There is no fact yet that could say so: the secret is known from the input that the intent holds."""
    ledger = Ledger()

    @step(kind="once")
    async def use(secret: Secret) -> None:
        current_step().reveal(secret)
        ledger.note("revealed")
        await asyncio.get_running_loop().create_future()

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(use, Secret("env:CANARY"))
        except StepFailed:
            run.emit("told", CANARY)
        return CANARY

    store = on_disk(tmp_path / "runs.db")
    first = await opened(store, main, environ=ENVIRON)
    handle: RunHandle[Any] = await first.start(main)
    await ledger.reaches("revealed")
    await die(first)
    async with witnessed(store, main, environ=ENVIRON) as second:
        handle = second.run(handle.id)
        await reaches(handle, "waiting")
        await second.resolve(handle.id, "fail")
        assert await handle.result() == "[secret env:CANARY]"
    assert leaks_in(tmp_path) == []


async def test_3_a_result_whose_redacted_form_does_not_fit_its_type_is_refused_not_leaked() -> None:
    """A number that holds a secret becomes a text: done, value lost, the same live and replayed."""
    caught: list[str] = []

    @step(kind="read")
    async def number(secret: Secret) -> int:
        return int(current_step().reveal(secret)) * 10 + 5

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(number, Secret("env:PIN"))
        except StepResultError as error:
            caught.append(error.message)
        await run.wait_for("go")
        return "done"

    async with recovered(MemoryStore(), main, main, options={"environ": ENVIRON}) as (_, handle):
        await handle.signal("go")
        assert await handle.result() == "done"
        for event in await journal(handle):
            assert b"73911073" not in (event.payload or b"")
    assert len(caught) == 2
    assert caught[0] == caught[1]


# --- detectors --------------------------------------------------------------------------------------------------------

# Put together here, so that no scanner takes this file for one that holds secrets.
SHAPES = {
    "pem_private_key": "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 4 + "\n-----END RSA",
    "sk_key": "sk-" + "proj4Xy9" * 6,
    "aws_access_key": "AKIA" + "IOSFODNN7EXAMPLE",
    "github_token": "ghp_" + "a1B2c3" * 6,
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0" + ".abcdefghijklmnopqrstuvwxyz012345",
    "url_credentials": "postgres://user:" + "hunter22@db.example.com/x",
}
WRITES: dict[str, Callable[[Run, Any], Any]] = {
    "a step's argument": lambda run, value: run.step(look, value),
    "state": lambda run, value: run.state.__setitem__("a", value),
    "an event": lambda run, value: run.emit("told", value),
    "an artifact": lambda run, value: run.put({"a": value}),
    "a child's input": lambda run, value: run.spawn(takes, value),
    "continue_as": lambda run, value: run.continue_as(value),
}


@step(kind="read")
async def look(value: Any) -> Any:
    return value


@workflow
async def takes(run: Run, value: Any) -> None: ...


@pytest.mark.parametrize("where", WRITES)
@pytest.mark.parametrize("shape", SHAPES)
async def test_3_what_has_the_shape_of_a_secret_is_refused_before_anything_is_written(shape: str, where: str) -> None:
    @workflow
    async def main(run: Run, value: Any = None) -> str:
        try:
            made = WRITES[where](run, {"x": ["text", f"around {SHAPES[shape]} it"]})
            if asyncio.iscoroutine(made):
                await made
        except SecretLeakError as error:
            return error.code if shape in error.message else error.message
        return "nothing"

    store = MemoryStore()
    async with witnessed(store, main, takes) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "secret_shape"
        assert await kinds(handle) == ["run.started", "node.entered", "node.completed", "run.completed"]
        with pytest.raises(SecretLeakError):
            await runtime.start(main, SHAPES[shape])
        assert len(await runtime.runs()) == 1
    assert store._artifacts == {}


@pytest.mark.parametrize("shape", SHAPES)
async def test_3_a_result_or_an_error_with_the_shape_of_a_secret_is_redacted(shape: str) -> None:
    """It is the world's answer, which cannot be refused; what reaches journal and code is the same mark."""
    text = SHAPES[shape]
    seen_values: list[Any] = []

    @step(kind="read")
    async def answers() -> dict[str, str]:
        return {"answer": f"it is {text} indeed"}

    @step(kind="read", raises=LookupError)
    async def fails(how: str) -> None:
        error = (LookupError if how == "raises" else ValueError)(f"failed with {text}")
        error.details = {"said": text}  # type: ignore[attr-defined]
        raise error

    @workflow
    async def main(run: Run) -> None:
        seen_values.append(await run.step(answers))
        for how in ("fails", "raises"):
            try:
                await run.step(fails, how)
            except (StepFailed, LookupError) as error:
                seen_values.append([str(error), getattr(error, "details", None), list(map(str, error.args))])
        await run.wait_for("go")

    async with recovered(MemoryStore(), main, main) as (_, handle):
        await handle.signal("go")
        await handle.result()
        payloads = b"".join(event.payload or b"" for event in await journal(handle))
    assert seen_values[:3] == seen_values[3:]
    secret = text if shape != "url_credentials" else "hunter22"
    assert secret not in str(seen_values)
    assert secret.encode() not in payloads
    assert orjson.dumps(secret)[1:-1] not in payloads


@pytest.mark.parametrize(
    "harmless",
    [
        "the password is in the vault, the secret token too",
        "sk-learn and sk-short",
        "AKIA is a prefix",
        "ghp_ is one too",
        "-----BEGIN PUBLIC KEY-----",
        "https://example.com:8080/path?user=a@b",
        "postgres://user:{password}@host/db",
        "eyJust three dots...",
    ],
)
async def test_3_detectors_look_for_shapes_not_for_words(harmless: str) -> None:
    @workflow
    async def main(run: Run, text: str) -> str:
        run.state["a"] = text
        run.emit("told", text)
        return await run.step(look, text)

    async with witnessed(MemoryStore(), main) as runtime:
        assert await (await runtime.start(main, harmless)).result() == harmless


@pytest.mark.parametrize("what", ["emit", "state", "read back"])
async def test_what_was_written_before_it_was_known_to_be_a_secret_is_no_drift_when_it_is(what: str) -> None:
    value = "canary-0123456789"

    @step(kind="idempotent")
    async def reveal(reference: Secret) -> int:
        return len(current_step().reveal(reference))

    @step(kind="idempotent")
    async def length(text: str) -> int:
        return len(text)

    @workflow
    async def main(run: Run, given: str) -> int:
        if what == "emit":
            run.emit("came", {"text": given})
        else:
            run.state["text"] = given
        await run.step(reveal, Secret("env:CANARY"))
        found = await run.step(length, run.state["text"] if what == "read back" else given)
        await run.wait_for("go")
        return found

    store, environ = MemoryStore(), {"CANARY": value}
    first = await opened(store, main, environ=environ)
    handle = await first.start(main, value)
    async for event in handle.events():
        if event.kind == "wait.opened":
            break
    await reaches(handle, "waiting")
    await die(first)
    async with Runtime(store, workflows=[main], environ=environ) as runtime:
        await runtime.signal("go", run_id=handle.id)
        assert await runtime.run(handle.id).result() == len(value)
