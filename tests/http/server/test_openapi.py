"""The OpenAPI document: valid, complete, and true of what is answered, member by member."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import jsonschema_rs
from schemathesis.specs.openapi.definitions import OPENAPI_31

from perdure.server.admission.access import is_open, scope_for
from perdure.server.document import operations_of
from tests.http.server.served import Served, served
from tests.http.server.test_schemathesis import fill

Schema = dict[str, Any]


async def documented() -> Schema:
    async with served() as place:
        found: Schema = (await place.client.get("/openapi.json")).json()
    return found


async def test_the_document_is_valid() -> None:
    document = await documented()
    assert document["openapi"].startswith("3.1.")
    errors = [f"{error.instance_path}: {error.message}" for error in jsonschema_rs.iter_errors(OPENAPI_31, document)]
    assert not errors
    for name, schema in schemas_of(document):
        jsonschema_rs.meta.validate(schema)
        assert refs_of(schema) <= {f"#/components/schemas/{one}" for one in document["components"]["schemas"]}, name


def schemas_of(document: Schema) -> Iterator[tuple[str, Schema]]:
    yield from document["components"]["schemas"].items()
    for method, path, operation in operations_of(document):
        for parameter in operation.get("parameters", ()):
            yield f"{method} {path}", parameter["schema"]
        for answer in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in answer.get("content", {}).values():
                yield f"{method} {path}", content["schema"]


def refs_of(tree: Any) -> set[str]:
    if isinstance(tree, dict):
        return {tree["$ref"]} if "$ref" in tree else set().union(*map(refs_of, tree.values()))
    return set().union(*map(refs_of, tree)) if isinstance(tree, list) else set()


async def test_every_operation_is_described_in_full() -> None:
    document = await documented()
    tags = {one["name"] for one in document["tags"]}
    ids = set()
    for method, path, operation in operations_of(document):
        about = f"{method} {path}"
        assert re.fullmatch(r"[a-z][a-z0-9_]*", operation["operationId"]), about
        assert operation["operationId"] not in ids, about
        ids.add(operation["operationId"])
        assert operation["summary"], about
        assert set(operation["tags"]) <= tags, about
        assert {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"} == set(
            re.findall(r"{(\w+)}", path)
        ), about
        for status, answer in operation["responses"].items():
            assert answer["description"], f"{about} {status}"
            if status == "204":
                continue
            assert answer["content"], f"{about} {status}"
            for media_type, content in answer["content"].items():
                assert content["schema"] not in ({}, {"type": "object"}), f"{about} {status} {media_type}"
            if int(status) >= 400 and (path, status) not in {("/readyz", "503")} and status != "416":
                assert refs_of(answer) == {"#/components/schemas/Refused"}, f"{about} {status}"


async def test_every_guarded_operation_says_which_scope_it_needs() -> None:
    document = await documented()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for method, path, operation in operations_of(document):
        if is_open(method, path):
            assert operation["security"] == []
            assert "401" not in operation["responses"]
        else:
            assert operation["security"] == [{"bearer": []}]
            assert f"`{scope_for(method, path)}`" in operation["description"]
            assert {"401", "403"} <= set(operation["responses"])


# --- the document is true ---------------------------------------------------------------------------------------------


def strict(tree: Any) -> Any:
    """The same schema, in which every object that names its members has no others."""
    if isinstance(tree, list):
        return [strict(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    made = {name: strict(value) for name, value in tree.items()}
    if isinstance(tree.get("properties"), dict) and tree.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


OPEN_ENDED = ("Reason", "PipelineRecord")
"""What has members beyond those that all of its kind have."""


class Truth:
    """Checks answers against the strict document."""

    def __init__(self, document: Schema) -> None:
        self.document = document
        self.components = strict(deepcopy(document["components"]))
        for name in OPEN_ENDED:
            self.components["schemas"][name].pop("additionalProperties")
        self.seen: set[tuple[str, str]] = set()

    async def get(self, place: Served, template: str, headers: dict[str, str] | None = None, **path: str) -> Any:
        """Ask, and check the answer."""
        bare, _, query = template.partition("?")
        url = bare.format(**path) + (f"?{query}" if query else "")
        answer = await place.client.get(url, headers=headers or {})
        told = self.document["paths"][bare]["get"]["responses"]
        status = str(answer.status_code)
        assert status in told, f"{url}: {status} {answer.text[:300]}"
        media_type = answer.headers["content-type"].partition(";")[0]
        assert media_type in told[status]["content"], f"{url}: {media_type}"
        self.seen.add((bare, status))
        if media_type != "application/json" or "artifacts/{artifact_id}" in bare:
            return None
        found = answer.json()
        schema = told[status]["content"][media_type]["schema"] | {"components": self.components}
        errors = [f"{one.instance_path}: {one.message}" for one in jsonschema_rs.iter_errors(schema, found)]
        assert not errors, f"{url}: {errors}"
        return found


async def test_answers_hold_what_the_document_says_and_nothing_else() -> None:
    async with served() as place:
        await fill(place)
        document = (await place.client.get("/openapi.json")).json()
        truth = Truth(document)
        runs = [one["run_id"] for one in (await truth.get(place, "/runs"))["runs"]]
        assert len(runs) > 30
        for run_id in [*runs, "nothing", "%20"]:
            for template in [path for path in document["paths"] if path.startswith("/runs/{run_id}")]:
                if "get" in document["paths"][template] and "artifact_id" not in template:
                    await truth.get(place, template, run_id=run_id)
            for template in [path for path in document["paths"] if path.startswith("/pipelines/{pipeline_id}")]:
                wanted = f"{template}?stream=false" if template.endswith("/events") else template
                if "get" in document["paths"][template] and "artifact_id" not in template:
                    await truth.get(place, wanted, pipeline_id=run_id)
        for template in [path for path in document["paths"] if "{" not in path and "get" in document["paths"][path]]:
            await truth.get(place, template)
        for image in ("svg", "dot", "json", "mermaid", "text", "gif"):
            await truth.get(place, f"/pipelines/{{pipeline_id}}/graph?format={image}", pipeline_id="gate-0")
        for family, name in (("runs", "run_id"), ("pipelines", "pipeline_id")):
            listed = (await truth.get(place, f"/{family}/{{{name}}}/artifacts", **{name: "keep-0"})) or {}
            for one in listed.get("artifacts", ()):
                path = f"/{family}/{{{name}}}/artifacts/{{artifact_id}}"
                for asked in ("bytes=0-0", "bytes=9999-", ""):
                    about = {name: "keep-0", "artifact_id": one["artifact_id"]}
                    await truth.get(place, path, {"range": asked}, **about)
        await truth.get(place, "/workflows/{name}", name="add")
        await truth.get(place, "/status?id=gate-0")
        assert {status for _, status in truth.seen} >= {"200", "206", "400", "404", "416"}
        answered = {path for path, status in truth.seen if status == "200"}
        missing = {path for path, methods in document["paths"].items() if "get" in methods} - answered
        assert missing == {"/webhooks/{webhook_id}", "/pipelines/{pipeline_id}/artifacts/{artifact_id}"}
