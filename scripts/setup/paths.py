"""Paths of the repository and the data folder."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
BUILD = ROOT / "build"
STAMPS = BUILD / "stamps.json"
LOG = BUILD / "setup.log"
PAGE = ROOT / "static"
LOCALE = ROOT / "locale"
STARTER = BUILD / "starter" / "smollm2-135m.gguf"
EMBEDDING = BUILD / "starter" / "all-minilm-22m.gguf"
MANAGE = ROOT / "manage.py"


def data_dir() -> Path:
    chosen = os.environ.get("DATA_DIR") or os.environ.get("CHATSITE_DATA_DIR") or "var"
    return (ROOT / Path(chosen).expanduser()).absolute()
