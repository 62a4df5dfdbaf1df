"""The version of the product, defined in `pyproject.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


@cache
def product_version() -> str:
    return str(tomllib.loads(_PROJECT.read_text())["project"]["version"])
