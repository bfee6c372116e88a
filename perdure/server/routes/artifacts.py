"""A run's artifacts, and the check of its journal together with them."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from perdure.core.errors import ArtifactNotFoundError
from perdure.engine.verification import Naming, artifacts_of, verify_run
from perdure.server.asked import Engine, RunId
from perdure.server.ranges import PLAIN, attachment
from perdure.server.responses import Json
from perdure.server.told import runs as told
from perdure.server.told.errors import answers
from perdure.store.port import ArtifactInfo

TEXT: Final = {"schema": {"type": "string"}}
BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
BYTES: Final = {kind: BINARY for kind in ("application/octet-stream", *sorted(PLAIN))}
HEADERS: Final = {"ETag": TEXT, "Accept-Ranges": TEXT, "Content-Disposition": TEXT}
RANGE: Final = {"Content-Range": TEXT}

router = APIRouter(tags=["runs"])


@router.get("/runs/{run_id}/verify", responses=answers(told.Verified))
async def verify_journal(run_id: RunId, runtime: Engine) -> Json:
    """Check a run's hash chain and artifacts."""
    return Json((await verify_run(runtime.store, run_id)).to_dict())


@router.get("/runs/{run_id}/artifacts", responses=answers(told.Artifacts))
async def list_artifacts(run_id: RunId, runtime: Engine) -> Json:
    """The artifacts that a run's journal names."""
    found = await artifacts_of(runtime.store, run_id)
    return Json({"artifacts": [artifact_view(info, naming) for info, naming in found]})


@router.get(
    "/runs/{run_id}/artifacts/{artifact_id}",
    response_class=Response,
    responses={
        200: {"content": BYTES, "headers": HEADERS, "description": "all bytes"},
        206: {"content": BYTES, "headers": HEADERS | RANGE, "description": "a range of them"},
        416: {"content": BYTES, "headers": HEADERS | RANGE, "description": "there are no such bytes"},
    },
)
async def get_artifact(run_id: RunId, artifact_id: str, runtime: Engine, request: Request) -> Response:
    """The bytes of an artifact of this run, as an attachment."""
    for info, _ in await artifacts_of(runtime.store, run_id):
        if info.sha256 == artifact_id:
            data = await runtime.store.get_artifact(artifact_id)
            headers = request.headers
            asked, if_range = headers.get("range"), headers.get("if-range")
            return attachment(data, artifact_id, info.media_type, asked, if_range=if_range)
    raise ArtifactNotFoundError(f"run {run_id} names no artifact {artifact_id!r}", run_id=run_id)


def artifact_view(info: ArtifactInfo, naming: Naming) -> dict[str, Any]:
    """An artifact, without its bytes."""
    return {"artifact_id": info.sha256, "size": info.size, "media_type": info.media_type} | naming.to_dict()
