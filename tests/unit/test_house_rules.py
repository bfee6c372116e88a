"""The rules of the house that a program can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "perdure"

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60  # without the docstring: nobody should save on that
VAGUE_NAMES = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
# Pieced together, so that this file does not hold what it looks for.
LEFT_UNDONE = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
NOT_IN_THE_REPOSITORY = re.compile(r"(?<![\w-])shared" + "/")

# What `import perdure` may not load: each costs more than all of Perdure's own names.
HEAVY = {
    "apsw",
    "asyncio",
    "click",
    "concurrent.futures",
    "http",
    "hypothesis",
    "multiprocessing",
    "orjson",
    "pydantic",
    "pydantic_core",
    "pytest",
    "rfc8785",
    "rich",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "typer",
}
IMPORT_BUDGET_S = 0.120


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert found
    return found


def program_files() -> list[Path]:
    folders = (PACKAGE, ROOT / "tests", ROOT / "examples", ROOT / "benchmarks")
    return [path for folder in folders for path in folder.rglob("*.py") if not in_a_hidden_folder(path)]


def in_a_hidden_folder(path: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(ROOT).parts[:-1])


def repository_files() -> list[Path]:
    """Every file that is in the repository or about to be, or all visible files where there is no git."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode == 0 and listing.stdout:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not in_a_hidden_folder(path)]
    return [path for path in paths if path.is_file()]


def repository_texts() -> Iterator[tuple[str, str]]:
    for path in repository_files():
        content = path.read_bytes()
        if b"\0" not in content:
            yield str(path.relative_to(ROOT)), content.decode("utf-8", "replace")


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_no_module_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def lines_of_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return 0 if ast.get_docstring(node) is None else lines_of(node.body[0])


def test_no_function_is_too_long() -> None:
    too_long = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = lines_of(node) - lines_of_docstring(node)
                if lines > MAX_FUNCTION_LINES:
                    too_long[f"{where(path, node.lineno)} {node.name}"] = lines
    assert too_long == {}


def test_no_module_has_a_vague_name() -> None:
    vague = [
        str(path.relative_to(ROOT))
        for path in modules()
        for name in path.relative_to(PACKAGE).with_suffix("").parts
        if VAGUE_NAMES & set(name.split("_"))
    ]
    assert vague == []


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {folder for path in modules() for folder in path.parents if folder.is_relative_to(PACKAGE)}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_nothing_is_left_undone() -> None:
    marks = [
        f"{where(path, number)}: {line.strip()}"
        for path in program_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if LEFT_UNDONE.search(line)
    ]
    assert marks == []


def test_the_repository_stands_alone() -> None:
    """No text leads to a folder beside the repository, nor to where this copy of it happens to lie."""
    patterns = [NOT_IN_THE_REPOSITORY]
    if len(ROOT.parts) > 2 and not ROOT.is_relative_to(tempfile.gettempdir()):
        patterns.append(re.compile(re.escape(str(ROOT)) + r"(?![\w.-])"))
    texts = list(repository_texts())
    assert texts
    leads = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts
        for number, line in enumerate(text.splitlines(), 1)
        if any(pattern.search(line) for pattern in patterns)
    ]
    assert leads == []


def clock_and_file_calls(path: Path) -> Iterator[str]:
    """Calls that import rules cannot see: `datetime` is plain data, asking it for the time is not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"now", "utcnow", "today"}:
            yield f"{where(path, node.lineno)} .{node.func.attr}()"
        if isinstance(node.func, ast.Name) and node.func.id in {"open", "print", "input"}:
            yield f"{where(path, node.lineno)} {node.func.id}()"


@pytest.mark.parametrize("room", ["core", "journal"])
def test_a_pure_room_asks_no_clock_and_opens_no_file(room: str) -> None:
    paths = [path for path in modules() if path.is_relative_to(PACKAGE / room)]
    assert paths
    assert [call for path in paths for call in clock_and_file_calls(path)] == []


def in_a_fresh_python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_importing_perdure_loads_nothing_heavy() -> None:
    program = "import sys; before = set(sys.modules); import perdure; print(*(set(sys.modules) - before))"
    loaded = set(in_a_fresh_python(program).split())
    assert "perdure" in loaded
    assert loaded & HEAVY == set()


def test_importing_perdure_keeps_its_time_budget() -> None:
    program = "from time import perf_counter as now; start = now(); import perdure; print(now() - start)"
    assert min(float(in_a_fresh_python(program)) for _ in range(5)) < IMPORT_BUDGET_S
