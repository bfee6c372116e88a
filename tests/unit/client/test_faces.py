"""The two faces of the client are one: the same methods with the same arguments, and types that are made of one."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from typing import Any, cast

import pytest

from perdure.client import BlockingClient, Client
from perdure.core.errors import ClientClosedError, InputError, NotFoundError, PerdureError, ValueRefusedError
from tests.docs.pages import ROOT, table_rows
from tests.unit.client.blocking_stub import STUB, rendered

ADDRESS = "http://127.0.0.1:9"


def public(cls: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(cls) if not name.startswith("_")}


def test_the_types_of_the_blocking_face_are_those_of_the_client() -> None:
    assert STUB.read_text() == rendered(), "write them anew: python -m tests.unit.client.blocking_stub"


def test_both_faces_have_the_same_methods() -> None:
    asynchronous, blocking = public(Client), public(BlockingClient)
    assert set(asynchronous) - {"aclose"} == set(blocking) - {"close"}
    for name in set(blocking) - {"close", "url"}:
        assert inspect.signature(blocking[name]) == inspect.signature(asynchronous[name]), name
        assert not inspect.iscoroutinefunction(blocking[name])
        assert blocking[name].__doc__ == asynchronous[name].__doc__


def test_both_faces_are_made_with_the_same_arguments() -> None:
    stub = ast.parse(STUB.read_text())
    (made,) = (node for node in ast.walk(stub) if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [argument.arg for argument in (*made.args.args, *made.args.kwonlyargs)]
    assert names == list(inspect.signature(Client.__init__).parameters)
    assert names == list(inspect.signature(BlockingClient.__init__).parameters)
    defaults = {one.name: one.default for one in inspect.signature(Client.__init__).parameters.values()}
    assert {one.name: one.default for one in inspect.signature(BlockingClient.__init__).parameters.values()} == defaults


def test_every_method_says_what_it_is() -> None:
    assert [name for name, member in public(Client).items() if callable(member) and not member.__doc__] == []


def test_the_page_names_every_verb_and_argument() -> None:
    page = ROOT / "docs" / "client.md"
    verbs = [verb.strip() for row in table_rows(page, "verbs") for verb in row[1].split(",")]
    assert sorted(verbs) == sorted(set(public(Client)) - {"aclose", "url"})
    defaults = {row[0]: row[1] for row in table_rows(page, "argument")}
    arguments = inspect.signature(Client).parameters.values()
    assert defaults == {one.name: one.default for one in arguments if one.name not in ("url", "token")}


def in_a_fresh_python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_the_http_library_is_loaded_with_the_first_client() -> None:
    program = "import sys, perdure, perdure.client as c; print('httpx2' in sys.modules, 'anyio' in sys.modules)"
    assert in_a_fresh_python(program).split() == ["False", "False"]


def test_a_client_needs_its_extra() -> None:
    program = (
        "import sys; sys.modules['httpx2'] = None\n"
        "from perdure.client import Client\n"
        "from perdure.core.errors import ClientExtraMissingError\n"
        f"try: Client({ADDRESS!r})\n"
        "except ClientExtraMissingError as error: print(error.hint)\n"
    )
    assert in_a_fresh_python(program).strip() == "pip install 'perdure[client]'"


async def test_a_client_that_is_not_open_says_so() -> None:
    client = Client(ADDRESS)
    with pytest.raises(ClientClosedError):
        await client.health()
    with pytest.raises(ClientClosedError):
        BlockingClient(ADDRESS).health()
    async with client:
        pass
    with pytest.raises(ClientClosedError):
        await client.health()


@pytest.mark.parametrize("run_id", ["", ".", "..", "../workers", "a/b", "a b", "ü", "a" * 129, None])
async def test_an_id_that_no_run_has_is_not_even_asked_for(run_id: Any) -> None:
    async with Client(ADDRESS, patience=0) as client:
        for called in (client.show, client.verify, client.cancel, client.pipeline, client.pipeline_context):
            with pytest.raises(PerdureError) as caught:
                await called(run_id)
            assert caught.value.code in ("run_not_found", "not_found")
        if run_id is not None:
            with pytest.raises(PerdureError) as caught:
                await client.workflow(run_id if run_id in ("", ".", "..") else "..")
            assert caught.value.code == "not_found"


async def test_what_cannot_be_sent_is_refused_before_it_is() -> None:
    async with Client(ADDRESS, patience=0) as client:
        with pytest.raises(ValueRefusedError):
            await client.start("w", {"x": float("nan")})
        with pytest.raises(ValueRefusedError):
            await client.answer("r", object())
        for key in ("", "a/b", "ü", " a", "x" * 201, cast("str", 5)):
            with pytest.raises(InputError):
                await client.pause("r", idempotency_key=key)
        with pytest.raises(InputError):
            await client.runs_page(created_after_ms=cast("int", 1.5))
        with pytest.raises(InputError):
            await client.runs_page(workflow="\ud800")
        with pytest.raises(NotFoundError):
            await client.workflow("\ud800")
        with pytest.raises(NotFoundError):
            await client.answer("r", "yes", wait_id="\ud800")
        with pytest.raises(InputError):
            await client.start("w", id="a", idempotency_key="b")
        with pytest.raises(InputError):
            await client.start("w", tags="nightly")
        with pytest.raises(InputError):
            await client.artifact("r", "0" * 64, range=(5, 5))
