"""The crash matrix: a workflow is run once to the end, and then killed at every instant that matters, and resumed."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import CrashMatrixError
from perdure.store.port import Durability
from perdure.testing.crash.points import CrashPoint, Moment, Site
from perdure.testing.crash.process import Job, report_file, witness_file
from perdure.testing.crash.reference import definition_reference, function_reference, load_definition
from perdure.testing.crash.servers import ForkServer
from perdure.testing.crash.verdict import Evidence, Outcome, StepCount, compare, judge
from perdure.testing.crash.witness import Line, read_lines
from perdure.workflow.graph import Definition, Graph

STORE: Final = "sqlite:///{directory}/runs.db"
KILLED: Final = -9
WORTH_A_SERVER: Final = 8
"""So many points take as long as it takes to start another fork server."""
MOST_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class PointResult:
    """What became of a run that was killed at one point.

    Attributes:
        point: where.
        reached: whether a process died there; on a second try things may take another order.
        problems: what is wrong; empty when all is well.
        outcome: how the run ended; `None` if it did not.
        steps: how often each step was called, and what it did.
        directory: where store, witness and output of its processes lie; kept when something is wrong.
    """

    point: CrashPoint
    reached: bool
    problems: tuple[str, ...]
    outcome: Outcome | None
    steps: tuple[StepCount, ...]
    directory: Path

    @property
    def ok(self) -> bool:
        """Whether the run ended as if nothing had happened."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class CrashMatrix:
    """What became of a workflow that was killed everywhere.

    Attributes:
        workflow: its reference.
        reference: how it ends when nothing crashes.
        steps: how often each step is called then.
        points: one result for each crash point.
        seconds: how long it all took.
    """

    workflow: str
    reference: Outcome
    steps: tuple[StepCount, ...]
    points: tuple[PointResult, ...]
    seconds: float
    reference_problems: tuple[str, ...] = ()
    directory: Path = field(default=Path())

    @property
    def failures(self) -> tuple[PointResult, ...]:
        """The points at which something is wrong."""
        return tuple(result for result in self.points if not result.ok)

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.failures and not self.reference_problems

    def assert_ok(self) -> None:
        """Do nothing if all is well.

        Raises:
            AssertionError: it says what is wrong, where, and where the remains lie.
        """
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        sites = Counter(f"{result.point.moment} a {result.point.site}" for result in self.points if result.reached)
        where = ", ".join(f"{count} {name}" for name, count in sorted(sites.items()))
        yield f"{self.workflow}: {self.reference}"
        yield f"  killed at {len(self.points)} points in {self.seconds:.1f} s: {where}"
        for problem in self.reference_problems:
            yield f"  without any crash: {problem}"
        for result in self.failures[:MOST_SHOWN]:
            yield f"  {result.point}" + (f" ({result.point.label})" if result.point.label else "")
            for problem in result.problems:
                yield f"    {problem}"
            yield f"    see {result.directory}"
        if len(self.failures) > MOST_SHOWN:
            yield f"  and {len(self.failures) - MOST_SHOWN} points more"


def crash_matrix(
    workflow: Definition | str | os.PathLike[str],
    /,
    *args: Any,
    input: Mapping[str, Any] | None = None,
    answers: Mapping[str, Any] | None = None,
    signals: Mapping[str, Any] | None = None,
    respond: Callable[..., Any] | str | None = None,
    setup: Callable[[], Any] | str | None = None,
    resume_with: Definition | str | os.PathLike[str] | None = None,
    same: Callable[[Outcome, Outcome], bool] | None = None,
    crashes: int = 1,
    only: Sequence[str] | None = None,
    sample: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    store: str = STORE,
    durability: Durability = "process",
    timeout: Duration = "30s",
    patience: Duration = "10s",
    directory: str | os.PathLike[str] | None = None,
    **kwargs: Any,
) -> CrashMatrix:
    """Run a workflow once to the end; then run it again for each crash point, kill its process there with SIGKILL, and
    resume it in another one; and find out whether it ends as if nothing had happened.

    A process is killed before and after each commit of the journal and each other write of the store, and at each call
    of a step: before the function is called, in the middle of its body, and after it has returned but before that is
    recorded. Time is virtual: timers, timeouts and backoffs pass at once. Each point has a store and a working folder
    of its own.

    Args:
        workflow: a workflow, flow or plan that is a variable of some file, or `"path.py:NAME"`.
        args, kwargs: its input; `input` is for parameters that have the name of one of these options.
        answers: to questions, by their text. Other questions time out, or get the most obvious answer: their default,
            yes, the first choice.
        signals: payloads of the signals that it waits for, by name.
        respond: a function at the top level of a file, or `"path.py:NAME"`, that is given each `Question` and each
            `Doubt` first, and returns the answer or `None`. Without it a doubt is resolved by what was witnessed.
        setup: such a function without arguments, called first in each process: for fakes of the world outside.
        resume_with: the definition with which processes resume, to try a deploy in the middle.
        same: whether two outcomes are the same, for output that is never twice the same (`run.now()`, `run.uuid()`).
        crashes: how many processes are killed at each point: the first there, further ones at random commits.
        only: texts of the points to try, such as `"commit:before:17"`.
        sample: try only so many points, chosen by `seed`.
        jobs: how many run at once; as many as there are processors if omitted.
        store: a URL in which `{directory}` stands for the folder of the point.
        durability: of the store. SIGKILL takes nothing from the operating system, so `process` is enough.
        timeout: for one process, in real time.
        patience: how long a step may take, in real time, before its timeout may pass in virtual time.
        directory: where the remains of points are kept; a temporary folder if omitted, removed when all is well.

    Raises:
        CrashMatrixError: the workflow cannot be found from another process, or does not end by itself.
    """
    reference = definition_reference(workflow)
    graph = load_definition(reference).compile() if isinstance(workflow, str | os.PathLike) else workflow.compile()
    place = Path(directory) if directory is not None else Path(tempfile.mkdtemp(prefix="perdure-crash-"))
    place.mkdir(parents=True, exist_ok=True)
    job = Job(
        directory="",
        store=store,
        workflow=reference,
        input=_raw_input(graph, args, {**kwargs, **(input or {})}),
        durability=durability,
        answers=dict(answers or {}),
        signals=dict(signals or {}),
        respond=function_reference(respond),
        setup=function_reference(setup),
        seed=seed,
        timeout_s=parse_duration(timeout, name="timeout"),
        patience_s=parse_duration(patience, name="patience"),
    )
    resumed = job.workflow if resume_with is None else definition_reference(resume_with)
    runner = _Runner(place, job, resumed, crashes, random.Random(seed), same)
    matrix = runner.run(jobs or os.cpu_count() or 1, only, sample)
    if directory is None and matrix.ok:
        shutil.rmtree(place)
    return matrix


def _raw_input(graph: Graph, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    import orjson

    tree: dict[str, Any] = orjson.loads(graph.dump_input(graph.bind(args, kwargs)))
    return tree


class _Runner:
    def __init__(
        self,
        place: Path,
        job: Job,
        resumed: str,
        crashes: int,
        chance: random.Random,
        same: Callable[[Outcome, Outcome], bool] | None,
    ) -> None:
        self._place = place
        self._job = job
        self._resumed = resumed
        self._crashes = crashes
        self._chance = chance
        self._same = same
        self._commits = 1

    def run(self, jobs: int, only: Sequence[str] | None, sample: int | None) -> CrashMatrix:
        """The matrix, by so many processes at once."""
        started_s = time.monotonic()
        servers: SimpleQueue[ForkServer] = SimpleQueue()
        with ForkServer(self._definitions(), self._functions()) as first:
            reference = self._reference(first)
            points = self._chosen(list(points_of(reference.lines)), only, sample)
            self._commits = sum(point.site == "commit" and point.moment == "before" for point in points) or 1
            many = min(jobs, -(-len(points) // WORTH_A_SERVER))
            others = [ForkServer(self._definitions(), self._functions()) for _ in range(many - 1)]
            try:
                for server in (first, *others):
                    servers.put(server)
                with ThreadPoolExecutor(max(1, jobs)) as pool:
                    plans = [self._plan(number, point) for number, point in enumerate(points, 1)]
                    results = list(pool.map(lambda plan: self._try(servers, reference, *plan), plans))
            finally:
                for server in others:
                    server.close()
        return CrashMatrix(
            workflow=self._job.workflow,
            reference=reference.outcome,
            steps=tuple(reference.counts()),
            points=tuple(results),
            seconds=time.monotonic() - started_s,
            reference_problems=tuple(judge(reference)),
            directory=self._place,
        )

    def _definitions(self) -> list[str]:
        return list(dict.fromkeys((self._job.workflow, self._resumed)))

    def _functions(self) -> list[str]:
        return [name for name in (self._job.respond, self._job.setup) if name is not None]

    def _reference(self, server: ForkServer) -> Evidence:
        """The run that nothing disturbs."""
        directory = self._place / "undisturbed"
        directory.mkdir()
        (ending,) = server.request([replace(self._job, directory=str(directory), trace=True)])
        if ending != 0:
            raise CrashMatrixError(
                f"without any crash, the run of {self._job.workflow} did not end:\n{_log(directory)}",
                hint="see whether it needs answers=, signals= or respond=",
                directory=str(directory),
            )
        evidence = _evidence(directory, 0)
        if evidence.outcome.status == "paused":
            raise CrashMatrixError(f"without any crash, the run is parked: {evidence.report['outcome']['message']}")
        return evidence

    def _chosen(self, points: list[CrashPoint], only: Sequence[str] | None, sample: int | None) -> list[CrashPoint]:
        if only is not None:
            labels = {str(point): point for point in points}
            return [labels.get(text, CrashPoint.parse(text)) for text in only]
        if sample is not None and sample < len(points):
            chosen = set(self._chance.sample(range(len(points)), sample))
            return [point for number, point in enumerate(points) if number in chosen]
        return points

    def _plan(self, number: int, point: CrashPoint) -> tuple[CrashPoint, Path, list[Job]]:
        """The processes of a point."""
        directory = self._place / f"{number:03}-{point.site}-{point.moment}"
        reference = str(witness_file(self._place / "undisturbed"))
        job = replace(self._job, directory=str(directory), reference=reference)
        jobs = [replace(job, point=str(point))]
        for process in range(1, self._crashes):
            moment = self._chance.choice(("before", "after"))
            again = f"commit:{moment}:{self._chance.randint(1, self._commits)}"
            jobs.append(replace(job, workflow=self._resumed, process=process, point=again))
        jobs.append(replace(job, workflow=self._resumed, process=self._crashes))
        return point, directory, jobs

    def _try(
        self, servers: SimpleQueue[ForkServer], reference: Evidence, point: CrashPoint, directory: Path, jobs: list[Job]
    ) -> PointResult:
        directory.mkdir()
        server = servers.get()
        try:
            endings = server.request(jobs)
        finally:
            servers.put(server)
        reached = endings[0] == KILLED
        if endings[-1] != 0:
            problem = f"process {len(endings) - 1} did not end by itself ({endings[-1]}):\n{_log(directory)}"
            return PointResult(point, reached, (problem,), None, (), directory)
        evidence = _evidence(directory, len(endings) - 1)
        problems = (*judge(evidence), *self._compare(evidence, reference))
        if not problems:
            shutil.rmtree(directory)
        return PointResult(point, reached, problems, evidence.outcome, tuple(evidence.counts()), directory)

    def _compare(self, evidence: Evidence, reference: Evidence) -> list[str]:
        if self._same is None:
            return compare(evidence, reference)
        if self._same(evidence.outcome, reference.outcome):
            return []
        return [f"the run ended {evidence.outcome} and not {reference.outcome}"]


def _evidence(directory: Path, process: int) -> Evidence:
    import orjson

    return Evidence(read_lines(witness_file(directory)), orjson.loads(report_file(directory, process).read_bytes()))


def _log(directory: Path) -> str:
    """The end of what its processes printed."""
    log = directory / "output.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    | {line}" for line in lines[-30:])


def points_of(lines: list[Line]) -> Iterator[CrashPoint]:
    """The crash points of a run, from what was witnessed while nothing disturbed it."""
    called: dict[str, str] = {}
    for line in lines:
        if line["what"] == "written":
            yield from _around(line["site"], str(line["number"]), line["holds"])
        elif line["what"] == "effect":
            yield from _around("effect", line["subject"], f"{line['effect']} of {line['key']}")
        elif line["what"] in ("called", "returned", "raised"):
            call = f"{line['run']}/{line['scope']}/{line['key']}@{line['attempt']}"
            if line["what"] == "called":
                called[call] = f"{line['kind']} {line['step']}"
                yield CrashPoint("step", "before", call, called[call])
                continue
            if (line["lines"] or 0) > 1:
                yield CrashPoint("step", "middle", f"{call}:{line['lines'] // 2 + 1}", called[call])
            yield CrashPoint("step", "after", call, called[call])


def _around(site: Site, subject: str, label: str) -> Iterator[CrashPoint]:
    moments: tuple[Moment, ...] = ("before", "after")
    for moment in moments:
        yield CrashPoint(site, moment, subject, label)
