"""Fixtures of tests that request pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}


@pytest.fixture(autouse=True)
def unbuilt(settings: Any) -> None:
    """Serve static files by their plain names, without a build, and hash passwords fast."""
    settings.STORAGES = STORAGES
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def data_dir(settings: Any, tmp_path: Path) -> Path:
    """Return a separate data directory for the test."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    settings.DATA_DIR = folder
    return folder
