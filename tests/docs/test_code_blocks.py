"""Every code block of the README and the documentation runs.

The blocks of a page share one fresh folder, in their order, so a block may use what an earlier one made.

* `python`: a program. One whose first line is `# NAME.py` is kept under that name; pytest runs it if that is
  `# test_….py`. One that ends with `# result: …` (JSON) holds workflows, of which the last is run with its default
  input, in memory, and must give that result.
* `console`: a transcript; see `transcripts.py`. What `make` would do is only asked for (`make --dry-run`), in the
  project's own folder: the targets themselves are run where the whole project is checked.
* `dot`: a pipeline, which breaks no rule. One whose first line is `// NAME.dot` is kept under that name.
* `json`, `toml`: parsed.
* `text`: no code, but a picture or a pattern.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from perdure import RunHandle, Runtime
from perdure.pipeline import validate_text
from perdure.workflow.loading import load_file
from tests.docs.pages import PAGES, ROOT, Block, read_page
from tests.docs.transcripts import check, commands_of, end_group, environment_for, play

LANGUAGES: Final = {"python", "console", "dot", "json", "toml", "text"}
# The plugin of this checkout, installed or not.
PYTEST: Final = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:perdure", "-p", "perdure.testing.plugin"]
_NAMED: Final = re.compile(r"# (?P<name>\w+\.py)")
_NAMED_DOT: Final = re.compile(r"// (?P<name>\w+\.dot)")
_RESULT: Final = re.compile(r"# result: (?P<json>.*)")


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_every_block_has_a_language_that_is_run(path: Path) -> None:
    assert [block.place for block in read_page(path).blocks if block.language not in LANGUAGES] == []


@pytest.mark.xdist_group("pages")  # some serve on the port that the page names, so they run one after the other
@pytest.mark.time_limit(120)
@pytest.mark.parametrize("path", [path for path in PAGES if read_page(path).blocks], ids=page_name)
def test_the_blocks_of_a_page_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(ROOT.iterdir())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    left: list[int] = []
    try:
        run_blocks(read_page(path).blocks, tmp_path, left)
    finally:
        for session in left:
            end_group(session)
    assert {path for path in set(ROOT.iterdir()) - before if not path.name.startswith(".")} == set()


def run_blocks(blocks: list[Block], folder: Path, left: list[int]) -> None:
    for block in blocks:
        if block.language == "python":
            run_python(block, folder)
        elif block.language == "console":
            run_console(block, folder, left)
        elif block.language == "dot":
            check_pipeline(block, folder)
        elif block.language == "json":
            for line in block.lines:
                json.loads(line)
        elif block.language == "toml":
            tomllib.loads(block.text)


def run_python(block: Block, folder: Path) -> None:
    named = _NAMED.match(block.text)
    file = folder / (named["name"] if named else f"block_{block.line}.py")
    file.write_text(block.text)
    runner = PYTEST if file.name.startswith("test_") else ["-W", "error"]
    done = subprocess.run(
        [sys.executable, *runner, file.name],
        cwd=folder,
        env=environment_for(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{block.place} failed:\n{done.stdout}"
    result = _RESULT.fullmatch(block.lines[-1])
    if result is not None:
        assert asyncio.run(result_of(file)) == json.loads(result["json"]), block.place


def check_pipeline(block: Block, folder: Path) -> None:
    assert [str(one) for one in validate_text(block.text)] == [], block.place
    named = _NAMED_DOT.match(block.text)
    if named:
        (folder / named["name"]).write_text(block.text)


async def result_of(file: Path) -> Any:
    definition = list(load_file(file).own.values())[-1]
    async with Runtime("memory://", workflows=[definition]) as runtime:
        handle: RunHandle[Any] = await runtime.start(definition)
        output = await handle.result()
        return definition.compile().output.tree(output)


def run_console(block: Block, folder: Path, left: list[int]) -> None:
    commands = commands_of(block.lines, block.line)
    targets = [command for command in commands if command.text.startswith("make ")]
    if targets:
        assert targets == commands, f"{block.place}: make stands in a block of its own"
        for command in targets:
            name = command.text.split()[1]
            subprocess.run(["make", "--dry-run", name], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return
    check(commands, play(commands, folder, environment_for(folder), left), block.place)
