"""Definitions from Python files."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.core.errors import DefinitionLoadError, SignatureError
from perdure.workflow.flow import Flow
from perdure.workflow.loading import load_definition, load_file, load_module, module_name, split_spec
from perdure.workflow.registry import Registry

ONE = """
from perdure.workflow.function import workflow

@workflow
async def one(run): ...
"""
TWO = (
    ONE
    + """
@workflow(name="second.one")
def two(run, n: int): ...

alias = two
"""
)

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports is forgotten after it; compiled files are written as Python does by itself."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def refused(spec: str | Path, load: Callable[[str | Path], object] = load_definition) -> DefinitionLoadError:
    with pytest.raises(DefinitionLoadError) as caught:
        load(spec)
    assert caught.value.code == "definition_load"
    return caught.value


# --- finding ----------------------------------------------------------------------------------------------------------


def test_the_only_workflow_of_a_file(write: Write) -> None:
    assert load_definition(write("flows.py", ONE)).name == "one"


@pytest.mark.parametrize("name", ["two", "alias", "second.one"])
def test_one_of_several_by_variable_or_by_name(write: Write, name: str) -> None:
    assert load_definition(f"{write('flows.py', TWO)}:{name}").name == "second.one"


def test_all_forms_are_found(write: Write) -> None:
    text = """
from perdure.workflow.flow import Flow
from perdure.workflow.plan import Plan
flow = Flow("a")
plan = Plan("b")
"""
    loaded = load_file(write("flows.py", text))
    assert [(name, type(one).__name__) for name, one in loaded.own.items()] == [("flow", "Flow"), ("plan", "Plan")]
    assert loaded.imported == {}


def test_an_imported_workflow_is_found_but_does_not_compete(write: Write) -> None:
    write("library_of_flows.py", ONE)
    text = ONE.replace("one", "mine") + "from library_of_flows import one\n"
    path = write("flows.py", text)
    loaded = load_file(path)
    assert list(loaded.own) == ["mine"]
    assert list(loaded.imported) == ["one"]
    assert [one.name for one in loaded.definitions] == ["mine", "one"]
    assert load_definition(path).name == "mine"
    assert load_definition(f"{path}:one").name == "one"


def test_a_file_that_only_imports_a_workflow(write: Write) -> None:
    write("library_of_flows.py", ONE)
    assert load_definition(write("flows.py", "from library_of_flows import one\n")).name == "one"


def test_two_variables_of_one_workflow_are_one(write: Write) -> None:
    assert load_definition(write("flows.py", ONE + "again = one\n")).name == "one"


def test_the_main_part_of_a_script_is_not_run(write: Write) -> None:
    path = write("flows.py", ONE + 'if __name__ == "__main__":\n    raise SystemExit(1)\n')
    assert load_definition(path).name == "one"


# --- importing --------------------------------------------------------------------------------------------------------


def test_the_module_name_is_that_of_the_path_in_every_process(write: Write) -> None:
    path = write("my-flows.py", ONE)
    module = load_module(path)
    program = f"from perdure.workflow.loading import load_module; print(load_module({str(path)!r}).__name__)"
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert other.stdout.strip() == module.__name__ == module_name(path)[0]
    assert module.__name__.startswith("perdure_file_my_flows_")
    assert getattr(module, "__perdure_file__") == str(path)  # noqa: B009
    assert sys.modules[module.__name__] is module


def test_functions_of_a_loaded_file_can_be_pickled(write: Write) -> None:
    module = load_module(write("flows.py", "def work(): return 7\n"))
    assert pickle.loads(pickle.dumps(module.work)) is module.work


def test_a_file_is_imported_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("flows.py", ONE)
    module = load_module(path)
    monkeypatch.chdir(path.parent)
    assert load_module("flows.py") is module
    assert load_module(path.parent / "." / "flows.py") is module


def test_a_changed_file_is_imported_anew_even_within_the_same_second(write: Write) -> None:
    path = write("flows.py", "value = 1\n" + ONE)
    before = load_module(path)
    stat = path.stat()
    path.write_text("value = 2\n" + ONE)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = load_module(path)
    assert (before.value, after.value) == (1, 2)
    assert sys.modules[after.__name__] is after


def test_loading_writes_nothing_beside_the_file(write: Write) -> None:
    path = write("flows.py", ONE)
    load_module(path)
    assert [one.name for one in path.parent.iterdir()] == ["flows.py"]


def test_two_files_of_one_name_are_two_modules(write: Write) -> None:
    one, other = write("a/flows.py", "value = 1\n"), write("b/flows.py", "value = 2\n")
    assert load_module(one).value == 1
    assert load_module(other).value == 2


def test_siblings_can_be_imported(write: Write) -> None:
    write("sibling_of_flows.py", "NAME = 'from.sibling'\n")
    text = ONE.replace("@workflow", "@workflow(name=NAME)") + "\n"
    path = write("flows.py", "from sibling_of_flows import NAME\n" + text)
    assert load_definition(path).name == "from.sibling"


def test_relative_imports_work_in_a_package(write: Write) -> None:
    write("package_of_flows/__init__.py", "")
    write("package_of_flows/inner/__init__.py", "")
    write("package_of_flows/names.py", "NAME = 'from.package'\n")
    text = "from ..names import NAME\n" + ONE.replace("@workflow", "@workflow(name=NAME)")
    path = write("package_of_flows/inner/flows.py", text)
    loaded = load_file(path)
    assert [one.name for one in loaded.own.values()] == ["from.package"]
    assert loaded.module.__name__ == "package_of_flows.inner.flows"
    assert getattr(loaded.module, "__perdure_file__") == str(path)  # noqa: B009


def test_a_package_is_imported_under_its_name(write: Write) -> None:
    assert load_file(write("package_of_flows/__init__.py", ONE)).module.__name__ == "package_of_flows"


def test_a_package_whose_name_is_taken(write: Write) -> None:
    path = write("json/__init__.py", ONE)
    error = refused(path)
    assert error.ids["reason"] == "import"
    assert "'json' belongs to" in error.message


def test_a_definition_from_a_second_import_of_its_file_is_the_same(write: Write) -> None:
    path = write("twice_imported_flows.py", ONE)
    registry = Registry()
    registry.register(load_definition(path))
    import importlib

    again: Any = importlib.import_module("twice_imported_flows")
    registry.register(again.one)
    assert registry.names() == ["one"]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gone.py", "gone", "gone/flows.py", "gone.py:one"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    error = refused(f"{tmp_path}/{name}")
    assert error.ids["reason"] == "file_missing"
    assert error.ids["path"] == f"{tmp_path}/{name.removesuffix(':one')}"
    assert "there is no such file" in error.message


def test_what_is_no_python_file(write: Write) -> None:
    text = write("flows.txt", ONE)
    (text.parent / "folder.py").mkdir()
    assert refused(text).ids["reason"] == "not_python"
    assert refused(text.parent).ids["reason"] == "not_python"
    assert refused(text.parent / "folder.py").ids["reason"] == "not_python"
    assert refused(text, load_file).ids["reason"] == "not_python"


def test_a_syntax_error_has_its_line(write: Write) -> None:
    path = write("flows.py", "x = 1\n\ndef broken(:\n")
    error = refused(path)
    assert error.ids == {"reason": "syntax", "path": str(path), "line": 3}
    assert "line 3: " in error.message
    assert "def broken(:" in error.message


def test_a_syntax_error_in_a_sibling_is_told_of_the_sibling(write: Write) -> None:
    sibling = write("broken_sibling.py", "\nx = = 1\n")
    error = refused(write("flows.py", "import broken_sibling\n"))
    assert error.ids == {"reason": "syntax", "path": str(sibling), "line": 2}


@pytest.mark.parametrize("text", ["\0", "x = '\xff'\n"])
def test_bytes_that_are_no_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "flows.py"
    path.write_bytes(text.encode("latin-1"))
    assert refused(path).ids["reason"] in ("syntax", "import")


def test_a_missing_module_has_its_line(write: Write) -> None:
    error = refused(write("flows.py", "\nimport does_not_exist_anywhere\n"))
    assert error.ids["reason"] == "import"
    assert error.ids["line"] == 2
    assert "install what provides 'does_not_exist_anywhere'" in error.hint


def test_a_relative_import_outside_a_package(write: Write) -> None:
    write("sibling_of_flows.py", "")
    error = refused(write("flows.py", "from . import sibling_of_flows\n"))
    assert error.ids["reason"] == "import"
    assert "__init__.py" in error.hint


@pytest.mark.parametrize("statement", ["1 / 0", "raise SystemExit('bye')", "assert False"])
def test_an_error_while_the_file_runs(write: Write, statement: str) -> None:
    path = write("flows.py", f"def work():\n    {statement}\n\nwork()\n")
    error = refused(path)
    assert (error.ids["reason"], error.ids["line"]) == ("import", 2)
    assert error.__cause__ is not None
    assert module_name(path)[0] not in sys.modules


def test_an_interrupt_is_not_swallowed(write: Write) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_module(write("flows.py", "raise KeyboardInterrupt\n"))


def test_a_wrong_definition_keeps_its_own_error(write: Write) -> None:
    path = write("flows.py", "from perdure.workflow.function import workflow\n@workflow\ndef one(): ...\n")
    with pytest.raises(SignatureError):
        load_definition(path)


def test_a_file_that_breaks_leaves_the_module_of_before(write: Write) -> None:
    path = write("flows.py", "value = 1\n")
    module = load_module(path)
    path.write_text("1 / 0\n")
    refused(path, load_module)
    assert sys.modules[module.__name__] is module


def test_a_file_without_a_workflow(write: Write) -> None:
    text = "import re, json\nfrom perdure.workflow.plan import Plan\npattern = re.compile('a')\n"
    assert refused(write("flows.py", text)).ids["reason"] == "none_found"


def test_several_workflows_and_no_name(write: Write) -> None:
    path = write("flows.py", TWO)
    error = refused(path)
    assert error.ids["reason"] == "several_found"
    assert error.ids["names"] == ["one", "two"]
    assert "one, two (workflow 'second.one')" in error.message
    assert error.hint == f"say which one: {path}:one"


def test_a_name_that_is_not_there(write: Write) -> None:
    path = write("flows.py", TWO)
    error = refused(f"{path}:three")
    assert (error.ids["reason"], error.ids["names"]) == ("name_not_found", ["one", "two"])
    assert refused(f"{path}:workflow").ids["reason"] == "name_not_found"
    assert refused(f"{path}:").ids["reason"] == "name_not_found"


def test_one_name_for_two_workflows(write: Write) -> None:
    text = "from perdure.workflow.flow import Flow\na = Flow('same')\nb = Flow('same')\n"
    path = write("flows.py", text)
    assert refused(f"{path}:same").ids["reason"] == "several_found"
    assert isinstance(load_definition(f"{path}:b"), Flow)


def test_a_path_may_have_colons() -> None:
    assert split_spec("a:b/c.py") == ("a:b/c.py", None)
    assert split_spec("a:b/c.py:d") == ("a:b/c.py", "d")
    assert split_spec(Path("c.py")) == ("c.py", None)
