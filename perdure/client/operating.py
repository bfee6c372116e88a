"""What operators ask for: workflows, workers, waits, numbers, health, versions."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.client.face import Face, path_of
from perdure.client.refusals import refusal_of
from perdure.client.views.base import View
from perdure.client.views.service import Health, OpenWait, VersionView, WorkerView, WorkflowView
from perdure.core.durations import Duration, parse_duration


class Operating(Face):
    """The face that looks at the service."""

    async def workflows(self) -> list[WorkflowView]:
        """The workflows that can be started, with the JSON schema of their input."""
        return list(_Workflows.read(await self._get("/workflows")).workflows)

    async def workflow(self, name: str) -> WorkflowView:
        """A workflow; its nodes and edges stand in `raw`.

        Raises:
            UnknownWorkflowError: there is none of this name.
        """
        return WorkflowView.read(await self._get(path_of("workflows", name)))

    async def workers(self) -> list[WorkerView]:
        """The workers that are registered with the store."""
        return list(_Workers.read(await self._get("/workers")).workers)

    async def waits(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        key: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
    ) -> list[OpenWait]:
        """Open waits.

        Args:
            kind: `question`, `signal`, `timer` or `child`.
            name: of the signal, the subject of the question, or the child's run id.
            key: the signal's key to match.
            run_id: of one run.
            limit: at most so many.
        """
        tree = await self._get("/waits", kind=kind, name=name, key=key, run_id=run_id, limit=limit)
        return list(_Waits.read(tree).waits)

    async def metrics(self) -> str:
        """Numbers, in the text format of Prometheus."""
        return (await self._fetch("/metrics")).content.decode("utf-8", "replace")

    async def health(self) -> Health:
        """Whether the process answers."""
        return Health.read(await self._get("/healthz"))

    async def ready(self) -> Health:
        """Whether the service can serve requests now; a no is an answer, too."""
        reply = await self._fetch("/readyz", whatever=True)
        if reply.status not in (200, 503):
            raise refusal_of(reply.status, reply.content)
        return Health.read(reply.json())

    async def version(self) -> VersionView:
        """What answers, and its version."""
        return VersionView.read(await self._get("/version"))

    async def hurry(self, patience: Duration) -> None:
        """From now on, ask no longer than this where nobody answers.

        Args:
            patience: as the client's own; a longer one changes nothing.
        """
        self._transport.patience_s = min(self._transport.patience_s, parse_duration(patience, name="patience"))


@dataclass(frozen=True)
class _Workflows(View):
    workflows: tuple[WorkflowView, ...]


@dataclass(frozen=True)
class _Workers(View):
    workers: tuple[WorkerView, ...]


@dataclass(frozen=True)
class _Waits(View):
    waits: tuple[OpenWait, ...]
