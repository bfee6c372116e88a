"""The whole benchmark in one command: make its virtual environment if needed, then measure in it.

This module runs on the standard library alone, so that the peers never enter the environment in which Perdure is
developed. Arguments go on to `benchmarks.main`; `--renew-constraints` takes the newest peers instead and writes down
their versions.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
ENVIRONMENT = HERE / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
REQUIREMENTS = HERE / "requirements.txt"
PEER_PINS = HERE / "constraints.txt"
OWN_PINS = PROJECT / "constraints.txt"
STAMP = ENVIRONMENT / "installed.sha256"
HEADER = """\
# Exact versions of the peers and of what they pull in, beyond what ../constraints.txt pins.
# Written by: python -m benchmarks --renew-constraints
"""


def wanted_digest() -> str:
    """SHA-256 of everything that decides what is installed."""
    files = (REQUIREMENTS, PEER_PINS, OWN_PINS, PROJECT / "pyproject.toml")
    return hashlib.sha256(b"\0".join([*(file.read_bytes() for file in files), sys.version.encode()])).hexdigest()


def pip(*arguments: str) -> str:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [str(PYTHON), "-m", "pip", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def build_environment(pins: list[Path]) -> None:
    """Make benchmarks/.venv anew: the peers, and what Perdure needs (it is itself imported from this checkout)."""
    print("installing the peers into benchmarks/.venv", file=sys.stderr, flush=True)
    if ENVIRONMENT.exists():
        shutil.rmtree(ENVIRONMENT)
    venv.create(ENVIRONMENT, with_pip=True)
    bounds = [argument for file in pins for argument in ("-c", str(file))]
    own: list[str] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    pip("install", "--quiet", *bounds, "-r", str(REQUIREMENTS), *own)


def pinned_names(text: str) -> set[str]:
    names = (line.split("==")[0] for line in text.splitlines() if "==" in line and not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def renew_constraints() -> None:
    """Install the newest peers that go with Perdure's own pins, and pin what came."""
    build_environment([OWN_PINS])
    ours = pinned_names(OWN_PINS.read_text())
    lines = [line for line in pip("freeze").splitlines() if pinned_names(line) and not pinned_names(line) <= ours]
    PEER_PINS.write_text(HEADER + "\n".join(lines) + "\n")


def main(arguments: list[str]) -> int:
    if "--renew-constraints" in arguments:
        renew_constraints()
        STAMP.write_text(wanted_digest())
        return 0
    if not STAMP.exists() or STAMP.read_text() != wanted_digest():
        build_environment([OWN_PINS, PEER_PINS])
        STAMP.write_text(wanted_digest())
    os.chdir(PROJECT)
    os.execv(PYTHON, [str(PYTHON), "-m", "benchmarks.main", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
