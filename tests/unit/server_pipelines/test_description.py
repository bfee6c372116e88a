"""The OpenAPI document knows every route of `/pipelines`, with its parameters and bodies."""

from __future__ import annotations

import re

from fastapi import FastAPI
from fastapi.routing import APIRoute

from perdure.server.document import document_of
from perdure.server.pipelines import router

WANTED = {
    "POST /pipelines",
    "POST /run",
    "GET /pipelines",
    "GET /status",
    "POST /answer",
    *(
        f"{method} /pipelines/{{pipeline_id}}{place}"
        for method, place in (
            ("GET", ""),
            ("GET", "/events"),
            ("POST", "/cancel"),
            ("POST", "/resume"),
            ("GET", "/graph"),
            ("GET", "/questions"),
            ("POST", "/questions/{question_id}/answer"),
            ("GET", "/checkpoint"),
            ("GET", "/context"),
            ("GET", "/artifacts"),
            ("GET", "/artifacts/{artifact_id}"),
        )
    ),
}


def test_every_route_and_alias_of_the_contract_is_there_and_no_other() -> None:
    found = {f"{next(iter(route.methods))} {route.path}" for route in router.routes if isinstance(route, APIRoute)}
    assert found == WANTED


def test_the_document_names_each_parameter_and_body() -> None:
    app = FastAPI()
    app.include_router(router)
    document = document_of(app)()
    names = [one["operationId"] for place in document["paths"].values() for one in place.values()]
    assert len(names) == len(set(names)) == len(WANTED)
    for path, place in document["paths"].items():
        for method, told in place.items():
            in_path = [one["name"] for one in told["parameters"] if one["in"] == "path"]
            assert in_path == re.findall(r"{(\w+)}", path)
            wants_body = method == "post" and not path.endswith(("/cancel", "/resume"))
            assert ("requestBody" in told) is wants_body, path
            knows_ids = "{" in path or path in ("/status", "/answer")
            assert ("404" in told["responses"]) is knows_ids, path
