"""The types of the blocking client, made from the asynchronous one.

`python -m tests.unit.client.blocking_stub` writes them anew.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

from perdure.client.client import Client

STUB: Final = Path(inspect.getfile(Client)).with_name("blocking.pyi")
SKIPPED: Final = {"aclose"}

HEAD: Final = '''
class BlockingClient:
    """The blocking face of `Client`."""

    @property
    def url(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self) -> None: ...
'''
OWN_IMPORTS: Final = {
    "BlockingIterator": "from perdure.client.portal import BlockingIterator",
    "Self": "from typing import Self",
    "TracebackType": "from types import TracebackType",
}


class _WithoutAwait(ast.NodeTransformer):
    """`AsyncGenerator[X, None]` is `BlockingIterator[X]`."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == "AsyncGenerator":
            assert isinstance(node.slice, ast.Tuple)
            return ast.Subscript(ast.Name("BlockingIterator"), self.visit(node.slice.elts[0]))
        return self.generic_visit(node)


def rendered() -> str:
    """The stub's text, formatted."""
    imports = dict(OWN_IMPORTS)
    own: set[str] = set()
    methods: list[str] = []
    for cls in Client.__mro__:
        if not cls.__module__.startswith("perdure."):
            continue
        module = ast.parse(Path(inspect.getfile(cls)).read_text())
        imports |= _imports_of(module)
        imports |= {name: f"from {cls.__module__} import {name}" for name in _aliases_of(module)}
        body = next(node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
        for node in body:
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and _is_shown(node):
                methods.append(_signature(node, own))
    text = HEAD + "".join(textwrap.indent(one, "    ") for one in methods)
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)} - set(dir(builtins))
    lines = sorted(imports[name] for name in names if name != "BlockingClient")
    return _formatted("# Made by tests/unit/client/blocking_stub.py.\n" + "\n".join(lines) + "\n" + text)


def _is_shown(node: ast.AsyncFunctionDef | ast.FunctionDef) -> bool:
    if node.name == "__init__":
        return True
    return isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_") and node.name not in SKIPPED


def _signature(node: ast.AsyncFunctionDef | ast.FunctionDef, own: set[str]) -> str:
    assert node.name not in own, node.name
    own.add(node.name)
    changed = _WithoutAwait().visit(node)
    returns = f" -> {ast.unparse(changed.returns)}" if changed.returns is not None else ""
    return f"def {changed.name}({ast.unparse(changed.args)}){returns}: ...\n"


def _imports_of(module: ast.Module) -> dict[str, str]:
    return {
        alias.asname or alias.name: f"from {node.module} import {alias.name}"
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _aliases_of(module: ast.Module) -> set[str]:
    return {
        target.id
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _formatted(text: str) -> str:
    for arguments in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(STUB), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


if __name__ == "__main__":
    STUB.write_text(rendered())
