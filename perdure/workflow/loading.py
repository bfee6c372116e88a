"""Definitions from Python files: `path/to/file.py`, or `path/to/file.py:NAME`.

A file that lies in a package is imported under its real name. Any other file is imported as `python file.py` would see
it, its folder being on `sys.path`, but under a module name that is derived from its path: the same in every process,
and never that of another module. Each such module has `__perdure_file__`, from which another process can load it again.

Siblings keep their plain names: two folders that both have a `steps.py` beside their workflows are not for one process,
unless they are packages.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, NamedTuple

from perdure.core.errors import DefinitionLoadError, PerdureError
from perdure.workflow.graph import Definition, is_definition

FILE_ATTRIBUTE: Final = "__perdure_file__"
"""The attribute of a loaded module that holds the absolute path of its file."""

_DIGEST_ATTRIBUTE: Final = "__perdure_digest__"
_SPEC: Final = re.compile(r"(?P<path>.*\.py)(?::(?P<name>[^:]*))?", re.DOTALL)


class LoadedFile(NamedTuple):
    """What a file of workflows holds.

    Args:
        path: absolute.
        module: the imported module.
        own: definitions that the file makes, by the name of the variable that holds them.
        imported: definitions that it imports from elsewhere.
    """

    path: Path
    module: ModuleType
    own: dict[str, Definition]
    imported: dict[str, Definition]

    @property
    def definitions(self) -> list[Definition]:
        """All definitions, the file's own ones first."""
        return [*self.own.values(), *self.imported.values()]


def load_definition(spec: str | os.PathLike[str]) -> Definition:
    """The one definition that is meant.

    Args:
        spec: `path.py:NAME`, where NAME is a variable of the file or the name of a workflow in it; or `path.py` alone,
            if the file makes one workflow (or makes none and imports one).

    Raises:
        DefinitionLoadError: as for `load_file`; or nothing in the file has that name (`reason="name_not_found"`), or
            without a name there are several to choose from (`reason="several_found"`); it lists them.
    """
    path, name = split_spec(spec)
    loaded = load_file(path)
    if name is not None:
        return _named(loaded, name)
    candidates = loaded.own or loaded.imported
    if len(candidates) > 1:
        raise _error(
            "several_found",
            loaded.path,
            f"it has several workflows: {_listing(candidates)}",
            hint=f"say which one: {path}:{next(iter(candidates))}",
            names=list(candidates),
        )
    return next(iter(candidates.values()))


def load_file(path: str | os.PathLike[str]) -> LoadedFile:
    """Import a file and find its definitions.

    Raises:
        DefinitionLoadError: `reason` says why: `file_missing`, `not_python` (a folder, or another kind of file),
            `syntax` (with `line`), `import` (the file raised an error; with `line` where it can be told), `none_found`.
        DefinitionError: a definition is refused while the file is imported.
    """
    module = load_module(path)
    where = Path(getattr(module, FILE_ATTRIBUTE))
    own: dict[str, Definition] = {}
    imported: dict[str, Definition] = {}
    seen: set[int] = set()
    for name, value in vars(module).items():
        if not is_definition(value) or id(value) in seen:
            continue
        seen.add(id(value))
        maker = getattr(value, "module", None) or getattr(value, "__module__", None)
        (own if maker == module.__name__ else imported)[name] = value
    if not seen:
        raise _error(
            "none_found",
            where,
            "it has no workflow",
            hint="decorate a function with @workflow, or make a Flow or a Plan",
        )
    return LoadedFile(where, module, own, imported)


def load_module(path: str | os.PathLike[str]) -> ModuleType:
    """Import a file by its path. A file outside packages is imported again if its text has changed since.

    Raises:
        DefinitionLoadError, DefinitionError: as for `load_file`.
    """
    where = Path(os.path.abspath(path))
    source = _read(where)
    name, root = module_name(where)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
        importlib.invalidate_caches()
    if root == where.parent:
        module = _load_alone(name, where, source)
    else:
        with _translating_errors(where):
            module = importlib.import_module(name)
        file = getattr(module, "__file__", None)
        if file is None or _real(file) != _real(where):
            raise _error("import", where, f"the module name {name!r} belongs to {file or 'another module'}")
    setattr(module, FILE_ATTRIBUTE, str(where))
    return module


def module_name(path: Path) -> tuple[str, Path]:
    """The name under which a file is imported, and the folder that must be on `sys.path`.

    Args:
        path: absolute.
    """
    parts: list[str] = []
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    if parts:
        return ".".join(parts if path.stem == "__init__" else [*parts, path.stem]), folder
    stem = re.sub(r"\W", "_", path.stem)
    return f"perdure_file_{stem}_{hashlib.sha256(os.fsencode(_real(path))).hexdigest()[:12]}", path.parent


def split_spec(spec: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Path and name of `path.py:NAME`.

    Raises:
        DefinitionLoadError: the path does not end in `.py`, or the name is empty.
    """
    text = os.fspath(spec)
    match = _SPEC.fullmatch(text)
    if match is None:
        reason = "file_missing" if not os.path.exists(text) else "not_python"
        message = "there is no such file" if reason == "file_missing" else "it is no Python file"
        raise _error(reason, Path(text), message, hint="give a file as path.py or path.py:NAME")
    if match["name"] == "":
        raise _error("name_not_found", Path(match["path"]), "the name after ':' is empty")
    return match["path"], match["name"]


# --- importing --------------------------------------------------------------------------------------------------------


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Imports the text that was read; a compiled file beside it is neither trusted nor written."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source, self.path)


def _load_alone(name: str, path: Path, source: bytes) -> ModuleType:
    digest = hashlib.sha256(source).hexdigest()
    known = sys.modules.get(name)
    if known is not None and getattr(known, _DIGEST_ATTRIBUTE, None) == digest:
        return known
    loader = _SourceLoader(name, str(path), source)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _translating_errors(path):
            loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        if known is not None:
            sys.modules[name] = known
        raise
    setattr(module, _DIGEST_ATTRIBUTE, digest)
    return module


@contextmanager
def _translating_errors(path: Path) -> Iterator[None]:
    """What goes wrong in a file is told with its place; errors of Perdure's own are clear already."""
    try:
        yield
    except PerdureError:
        raise
    except (Exception, SystemExit) as error:
        raise _import_error(path, error) from error


def _import_error(path: Path, error: BaseException) -> DefinitionLoadError:
    if isinstance(error, SyntaxError):
        where = Path(error.filename or path)
        shown = (error.text or "").strip()
        message = f"line {error.lineno}: {error.msg}" + (f": {shown}" if shown else "")
        return _error("syntax", where, message, line=error.lineno)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = frames[-1].lineno if frames else None
    at = f"line {line}: " if line is not None else ""
    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = None
    if isinstance(error, ModuleNotFoundError):
        hint = f"install what provides {error.name!r} where perdure runs, or check the spelling"
    elif isinstance(error, ImportError) and "no known parent package" in str(error):
        hint = "import siblings by their plain names, or add an __init__.py to make the folder a package"
    return _error("import", path, f"{at}{cause}", hint=hint, line=line)


def _read(path: Path) -> bytes:
    if path.is_dir() or path.suffix != ".py":
        reason = "not_python" if path.exists() else "file_missing"
        raise _error(reason, path, "it is no Python file" if path.exists() else "there is no such file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _error("file_missing", path, "there is no such file", hint="check the path") from None
    except OSError as error:
        raise _error("file_unreadable", path, f"it cannot be read: {error.strerror}") from error


def _real(path: str | Path) -> str:
    return os.path.realpath(path)


def _file_of(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return None if file is None else _real(file)


# --- choosing ---------------------------------------------------------------------------------------------------------


def _named(loaded: LoadedFile, name: str) -> Definition:
    found = loaded.own | loaded.imported
    if name in found:
        return found[name]
    matches = {id(one): one for one in found.values() if one.name == name}
    # A second variable of the same definition.
    held = getattr(loaded.module, name, None)
    matches |= {id(one): one for one in found.values() if one is held}
    if len(matches) == 1:
        return next(iter(matches.values()))
    if matches:
        raise _error("several_found", loaded.path, f"several workflows are named {name!r}", names=list(found))
    raise _error(
        "name_not_found",
        loaded.path,
        f"it has no workflow {name!r}",
        hint=f"it has {_listing(found)}",
        names=list(found),
    )


def _listing(found: dict[str, Definition]) -> str:
    return ", ".join(
        variable if one.name == variable else f"{variable} (workflow {one.name!r})" for variable, one in found.items()
    )


def _error(reason: str, path: Path, message: str, *, hint: str | None = None, **ids: object) -> DefinitionLoadError:
    return DefinitionLoadError(f"{path}: {message}", hint=hint, reason=reason, path=str(path), **ids)
