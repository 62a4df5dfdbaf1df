"""A file is loaded once, in a child that may die of it, before it becomes a model."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from chatsite.engine.check import CheckFailed
from chatsite.engine.check import check as check_in_child
from chatsite.inference import machine
from models_admin import gguf
from models_admin.versions import ImportRefused

logger = logging.getLogger(__name__)


def check(path: Path) -> bool:
    """Reads the header, then loads the file: within a minute and what its size takes to read.
    Whether it was loaded: without llama.cpp (`CHATSITE_BACKEND=scripted`) the header is all there
    is to check. For threads without an event loop. Raises `ImportRefused`, whose text says why,
    and OSError.
    """
    try:
        with path.open("rb") as file:
            gguf.check_model(file, path.stat().st_size)
    except gguf.BadGGUF as error:
        raise ImportRefused(str(error)) from error
    if settings.ENV.backend != "llama":
        return False
    try:
        # Computing reads all weights; what does not fit memory would push out all else.
        fits = path.stat().st_size < machine.memory().available
        found = asyncio.run(check_in_child(path, name="check", compute=fits))
    except CheckFailed as error:
        raise ImportRefused(str(_("The model can't be loaded here: %s.")) % error) from error
    if found.template_problem:
        logger.warning("%s: its chat template can't be used: %s", path, found.template_problem)
    return True
