"""Background jobs: the check of the organization's directory, and health checks."""

from __future__ import annotations

import logging

from chatsite.accounts.directory import sync
from chatsite.accounts.directory.person import DirectoryUnavailable
from chatsite.celery import app
from chatsite.redis_client import connect_blocking
from chatsite.redis_keys import probe_key

logger = logging.getLogger(__name__)

_PROBE_TTL_SECONDS = 60


@app.task(name="chatsite.sync_directory", ignore_result=True)
def sync_directory() -> None:
    """Disable users who left the directory; started by beat at `CHATSITE_DIRECTORY_SYNC_AT`."""
    try:
        report = sync.run(via="system")
    except DirectoryUnavailable:
        return  # logged with the reason; the next night tries again
    logger.info(
        "The directory was checked",
        extra={
            "checked": report.checked,
            "disabled": len(report.disabled),
            "enabled": len(report.enabled),
        },
    )


@app.task(name="chatsite.answer_probe", ignore_result=True)
def answer_probe(id: str) -> None:
    """Report to a health check that a worker took its job (`web.health`)."""
    redis = connect_blocking()
    try:
        redis.set(probe_key(id), 1, ex=_PROBE_TTL_SECONDS)
    finally:
        redis.close()
