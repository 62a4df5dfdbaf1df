"""Test load of a file before it becomes a model, in a child process that may crash."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from chatsite.capacity import machine
from chatsite.engine.load_test import CheckFailed
from chatsite.engine.load_test import check as check_in_child
from chatsite.errors import worded
from models_admin.gguf import header
from models_admin.store.versions import ImportRefused

logger = logging.getLogger(__name__)


def check(path: Path) -> bool:
    """Check the header and load the file; return whether it was loaded.

    The timeout is a minute plus the time to read a file of this size. Without llama.cpp
    (`CHATSITE_BACKEND=scripted`) only the header is checked. Call it from a thread without an event
    loop. Raises `ImportRefused`, whose text gives the reason, and `OSError`.
    """
    try:
        with path.open("rb") as file:
            header.check_model(file, path.stat().st_size)
    except header.BadGGUF as error:
        raise ImportRefused(str(error)) from error
    if settings.ENV.backend != "llama":
        return False
    try:
        # Computing reads all weights; a file larger than memory would evict the page cache.
        fits = path.stat().st_size < machine.memory().available
        found = asyncio.run(check_in_child(path, name="check", compute=fits))
    except CheckFailed as error:
        raise ImportRefused(
            worded(_("The model can't be loaded on this server: %s."), str(error))
        ) from error
    if found.template_problem:
        logger.warning(
            "Chat template can't be used", extra={"path": path, "problem": found.template_problem}
        )
    return True
