"""Release notes from a real git repository: what changed since the newest tag, grouped, and written to a file.

    perdure run examples/release_notes.py --input repo=.
    perdure run examples/release_notes.py --input repo=/path/to/any/repository --input since=v1.2.0

All four ideas of Perdure's steps do a real job here:

* `read` steps ask git. The first one pins the commit: the notes are about that commit, even if the answer to the
  question below comes three days and ten commits later. One more read for each commit, eight at a time.
* `pure` steps sort the changes and write the text.
* A question asks a person whether to write the file. Nobody need keep a process alive until the answer comes.
* A `once` step writes the file. If the worker dies in the middle of it, a probe looks whether the file was written.

Kill it at any instant and start it again: it ends as if nothing had happened (`make crash-demo` shows it).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from perdure import Done, NotDone, Run, current_step, step, workflow

WRITE: Final = "write it"
SKIP: Final = "do not write it"


class ReleaseNotesError(Exception):
    """Why there are no release notes.

    Args:
        code: what programs match on: `no_git`, `no_repository`, `no_commits`, `no_such_revision`, `git_failed` or
            `output_refused`.
        message: the cause, in one line.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# --- values: plain dataclasses; the declared types decide how they are recorded ---------------------------------------


@dataclass(frozen=True)
class Repository:
    """A repository, pinned at one commit."""

    top: str
    head: str
    branch: str


@dataclass(frozen=True)
class Commit:
    """One commit, as its author described it."""

    sha: str
    date: str
    subject: str


@dataclass(frozen=True)
class Change:
    """What one commit changed."""

    commit: Commit
    files: int
    added: int
    removed: int
    areas: list[str]


@dataclass(frozen=True)
class Receipt:
    """A file that was written: `blob` is what git calls its content."""

    file: str
    size: int
    blob: str


@dataclass(frozen=True)
class Outcome:
    """What the run did."""

    commits: int
    since: str | None
    written: Receipt | None
    artifact: str


# --- asking git -------------------------------------------------------------------------------------------------------


async def git(folder: str, *arguments: str) -> str:
    """The output of a git command; git is killed when the step that asked is cancelled or timed out."""
    environment = os.environ | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        process = await asyncio.create_subprocess_exec(
            "git", "-C", folder, *arguments, stdout=-1, stderr=-1, stdin=asyncio.subprocess.DEVNULL, env=environment
        )
    except FileNotFoundError:
        raise ReleaseNotesError("no_git", "git is not installed") from None
    try:
        output, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        told = complaint.decode(errors="replace").strip().splitlines()
        raise ReleaseNotesError("git_failed", told[-1] if told else f"git ended with code {process.returncode}")
    return output.decode(errors="replace")


@step(kind="read", timeout="30s", retries=2, retry_on=(OSError,))
async def open_repository(repo: str) -> Repository:
    """Find the repository and pin the commit that it stands at."""
    try:
        top = (await git(repo, "rev-parse", "--show-toplevel")).rstrip("\n")
    except ReleaseNotesError as error:
        raise _named(error, "no_repository", f"{repo!r} is no git repository that can be read: {error}") from error
    try:
        head = (await git(top, "rev-parse", "--verify", "HEAD^{commit}")).strip()
    except ReleaseNotesError as error:
        raise _named(error, "no_commits", f"{top} has no commit yet") from error
    branch = (await git(top, "rev-parse", "--abbrev-ref", "HEAD")).strip()
    return Repository(top, head, branch)


def _named(error: ReleaseNotesError, code: str, message: str) -> ReleaseNotesError:
    return ReleaseNotesError(code, message) if error.code == "git_failed" else error


@step(kind="read", timeout="30s", retries=2, retry_on=(OSError,))
async def find_start(top: str, head: str, since: str | None) -> str | None:
    """Where the notes begin: the revision that was asked for, else the newest tag before the head, else nowhere."""
    if since is not None:
        try:
            await git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", since + "^{commit}")
        except ReleaseNotesError as error:
            raise _named(error, "no_such_revision", f"{top} has no tag or commit {since!r}") from error
        return since
    form = "%(objectname) %(*objectname) %(refname:short)"
    tags = await git(top, "for-each-ref", f"--merged={head}", "--sort=-creatordate", f"--format={form}", "refs/tags")
    for line in tags.splitlines():
        *commits, name = line.split(" ")
        if head not in commits:
            return name
    return None


@step(kind="read", timeout="60s", retries=2, retry_on=(OSError,))
async def list_commits(top: str, head: str, since: str | None, limit: int) -> list[Commit]:
    """The newest commits in the range, merges left out."""
    span = head if since is None else f"{since}..{head}"
    form = "--format=%H%x1f%cs%x1f%s"
    lines = await git(top, "log", "--no-merges", f"--max-count={limit}", "-z", form, "--end-of-options", span, "--")
    return [Commit(*line.split("\x1f", 2)) for line in lines.split("\0") if line]


@step(kind="read", timeout="30s", retries=2, retry_on=(OSError,))
async def read_change(top: str, commit: Commit) -> Change:
    """How much one commit changed, and where."""
    form = ("--root", "--no-commit-id", "--numstat", "--no-renames", "-r", "-z")
    rows = [row.split("\t") for row in (await git(top, "diff-tree", *form, commit.sha)).split("\0") if row]
    areas = sorted({path.rpartition("/")[0].partition("/")[0] or "." for _, _, path in rows})
    counts = [(_count(added), _count(removed)) for added, removed, _ in rows]
    return Change(commit, len(rows), sum(one for one, _ in counts), sum(one for _, one in counts), areas)


def _count(told: str) -> int:
    return 0 if told == "-" else int(told)  # of a binary file git counts no lines


# --- from changes to text ---------------------------------------------------------------------------------------------

_PREFIXED: Final = re.compile(r"(?P<type>[A-Za-z]+)(\([^)]*\))?!?: *(?P<rest>.+)")
_SECTIONS: Final = {
    "Added": {"add", "adds", "added", "allow", "create", "feat", "feature", "implement", "introduce", "new", "support"},
    "Fixed": {"bugfix", "correct", "fix", "fixed", "fixes", "handle", "hotfix", "prevent", "repair"},
    "Removed": {"delete", "deprecate", "drop", "remove", "removed", "removes", "revert"},
    "Documentation": {"doc", "docs", "document", "explain", "readme"},
    "Housekeeping": {"build", "bump", "chore", "ci", "lint", "release", "style", "test", "tests"},
}


@step(kind="pure")
def group(changes: list[Change]) -> dict[str, list[Change]]:
    """Sort changes into sections by the first word of their subjects."""
    sections: dict[str, list[Change]] = {}
    for change in changes:
        sections.setdefault(_section_of(change.commit.subject), []).append(change)
    return sections


def _section_of(subject: str) -> str:
    prefixed = _PREFIXED.fullmatch(subject)
    word = (prefixed["type"] if prefixed else subject.partition(" ")[0]).lower()
    return next((section for section, words in _SECTIONS.items() if word in words), "Changed")


@step(kind="pure")
def render(repository: Repository, since: str | None, sections: dict[str, list[Change]], limit: int) -> str:
    """The release notes as Markdown."""
    changes = [change for found in sections.values() for change in found]
    dates = sorted(change.commit.date for change in changes)
    span = f"from {dates[0]} to {dates[-1]}" if dates else "no changes"
    began = f"since {since}" if since else "since the beginning"
    lines = ["# Release notes", "", f"{repository.branch} at {repository.head[:10]}, {began}: {span}.", ""]
    if len(changes) == limit:
        lines += [f"Only the newest {limit} commits are listed.", ""]
    for section in ["Added", "Changed", "Fixed", "Removed", "Documentation", "Housekeeping"]:
        if section in sections:
            lines += [f"## {section}", "", *map(_entry, sections[section]), ""]
    areas = Counter(area for change in changes for area in change.areas)
    if areas:
        lines += [
            "## Where",
            "",
            *(f"- `{area}`: {_count_of(count, 'commit')}" for area, count in areas.most_common(10)),
            "",
        ]
    return "\n".join(lines)


def _entry(change: Change) -> str:
    prefixed = _PREFIXED.fullmatch(change.commit.subject)
    text = prefixed["rest"] if prefixed and _section_of(change.commit.subject) != "Changed" else change.commit.subject
    size = f"{_count_of(change.files, 'file')}, +{change.added} −{change.removed}"
    return f"- {text} ({change.commit.sha[:10]}: {size})"


def _count_of(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# --- writing the file -------------------------------------------------------------------------------------------------


def _target(top: str, output: str) -> Path:
    """Where the file goes: inside the repository, whatever is asked for."""
    target = Path(top, output)
    if ".." in Path(output).parts or not target.parent.resolve().is_relative_to(Path(top).resolve()):
        raise ReleaseNotesError("output_refused", f"the output {output!r} lies outside the repository")
    return target


def _replace(target: Path, data: bytes, mark: str) -> None:
    """Write a file so that there is the old one or the new one at any instant, and the new one survives a power cut.

    What lies beside it until then is named after the step's idempotency key: another attempt takes the same name, so a
    crash leaves nothing behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{mark[:12]}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def _receipt(top: str, output: str, data: bytes) -> Receipt:
    return Receipt(output, len(data), (await git(top, "hash-object", "--no-filters", "--", output)).strip())


async def was_written(top: str, output: str, text: str) -> Done | Any:
    """Look whether the file is there as it should be; asked after a crash in the middle of `write_notes`."""
    try:
        found = await asyncio.to_thread(_target(top, output).read_bytes)
    except FileNotFoundError:
        return NotDone
    return Done(await _receipt(top, output, found)) if found == text.encode() else NotDone


@step(kind="once", probe=was_written, timeout="30s", not_done=(PermissionError, IsADirectoryError))
async def write_notes(top: str, output: str, text: str) -> Receipt:
    """Replace the file by the new notes."""
    data = text.encode()
    await asyncio.to_thread(_replace, _target(top, output), data, current_step().idempotency_key)
    return await _receipt(top, output, data)


# --- the workflow -----------------------------------------------------------------------------------------------------


@workflow
async def release_notes(
    run: Run, repo: str = ".", since: str | None = None, output: str = "RELEASE_NOTES.md", limit: int = 100
) -> Outcome:
    """Release notes of a git repository, since its newest tag.

    Args:
        repo: a folder in the repository.
        since: a tag or commit where the notes begin.
        output: the file to write, inside the repository.
        limit: at most so many commits.
    """
    repository = await run.step(open_repository, repo)
    top = repository.top
    _target(top, output)  # refused before anybody is asked
    start = await run.step(find_start, top, repository.head, since)
    commits = await run.step(list_commits, top, repository.head, start, limit)

    async def change_of(commit: Commit) -> Change:
        return await run.step(read_change, top, commit)

    changes = await run.map(change_of, commits, limit=8)
    sections = await run.step(group, changes)
    run.emit("notes.grouped", {section: len(found) for section, found in sections.items()})
    text = await run.step(render, repository, start, sections, limit)
    notes = run.put(text, name=Path(output).name, media_type="text/markdown", kind="text")

    question = f"Write {output} ({_count_of(len(commits), 'commit')} since {start or 'the beginning'})?"
    answer = await run.ask(question, choices=[WRITE, SKIP], default=WRITE, timeout="15m")
    receipt = None
    if answer == WRITE:
        receipt = await run.step(write_notes, top, output, text)
    return Outcome(len(commits), start, receipt, notes.sha256)
