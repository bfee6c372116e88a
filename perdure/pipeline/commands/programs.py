"""Which programs may be run, where not every program may."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perdure.pipeline.commands.errors import CommandMissingError


@dataclass(frozen=True, slots=True)
class AllowedPrograms:
    """A list of programs, by where they lie: the folder without links, and the name in it.

    A link that a program itself may be is not followed: many names may be links to one program that does what its name
    says, and to allow one of them must not allow all.

    Args:
        places: of the programs.
        path: the PATH in which they, and those that are asked for, are looked up.
    """

    places: frozenset[str]
    path: str

    @classmethod
    def find(cls, programs: Iterable[str], path: str) -> AllowedPrograms:
        """The list of some programs.

        Args:
            programs: names, looked up in `path`, or paths.
            path: folders, as the variable PATH has them.

        Raises:
            CommandMissingError: there is no such program.
        """
        places = set[str]()
        for program in programs:
            found = _place(program, Path.cwd(), path)
            if found is None:
                raise CommandMissingError(f"there is no program {program[:200]!r}", program=program)
            places.add(found)
        return cls(frozenset(places), path)

    def place(self, program: str, directory: Path) -> str | None:
        """Where a program lies, if it may be run.

        Args:
            program: as a command names it.
            directory: where the command is to run; a path that is not absolute begins there.
        """
        found = _place(program, directory, self.path)
        return found if found in self.places else None


def _place(program: str, directory: Path, path: str) -> str | None:
    if not program or "\0" in program:
        return None
    if os.path.dirname(program):
        found: str | None = os.path.join(directory, program)
    else:
        # An empty or relative entry would mean whatever folder this process happens to be in.
        folders = [folder for folder in path.split(os.pathsep) if os.path.isabs(folder)]
        found = shutil.which(program, path=os.pathsep.join(folders)) if folders else None
    if found is None or not os.path.isfile(found) or not os.access(found, os.X_OK):
        return None
    folder, name = os.path.split(found)
    return os.path.join(os.path.realpath(folder), name)
