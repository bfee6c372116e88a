"""The version of Perdure."""

from typing import Final

VERSION: Final = "0.1.0"
