"""`ps`, `show`, `events`, `state`, `artifacts`: commands that only look."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from perdure.cli.options import JsonOption, RunArgument, StoreOption
