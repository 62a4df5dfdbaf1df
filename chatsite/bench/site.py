"""A site to measure: the one that runs on these settings, or one started for the purpose."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings

from models_admin import dashboard

_START_SECONDS = 60
_STOP_SECONDS = 15
_TUNING_SECONDS = 300


class SiteDidNotStart(Exception):
    """``args[0]`` is its address."""


@contextmanager
def running(url: str) -> Iterator[None]:
    """Leaves a running site alone; otherwise runs `manage.py up` for as long as the block."""
    if _healthy(url):
        yield
        return
    process = subprocess.Popen(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "up"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SiteDidNotStart(url)
            time.sleep(0.2)
        _wait_for_tuning()
        yield
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def _wait_for_tuning() -> None:
    """A model that somebody waits for is measured only in part, and then runs slower than it
    could: so nobody asks before that is over."""
    deadline = time.monotonic() + _TUNING_SECONDS
    while time.monotonic() < deadline:
        models = [model for host in dashboard.hosts() or () for model in host.models]
        if all(model.state in {"ready", "failed"} for model in models):
            return
        time.sleep(0.5)


def _healthy(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz", timeout=5) as answer:  # noqa: S310  (our own address)
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
