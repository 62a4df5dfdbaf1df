"""Redis keys are defined in one place, and all begin with the configured prefix."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from chatsite import redis_keys

ROOT = Path(__file__).resolve().parents[2]
# Where a literal prefix is allowed: the default of the setting, and the place itself.
ALLOWED = {"chatsite/env.py", "chatsite/redis_keys.py"}


def test_b6_no_other_module_spells_a_key() -> None:
    found = [
        str(path.relative_to(ROOT))
        for folder in ("chatsite", "models_admin")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"""["'`]cs:|\{PREFIX\}""", path.read_text())
    ]
    assert set(found) <= ALLOWED


def test_b6_scripts_take_the_prefix() -> None:
    scripts = [*(ROOT / "chatsite").rglob("*.lua")]
    assert scripts
    for script in scripts:
        assert "cs:" not in script.read_text()


def test_b6_chat_jobs_and_download_progress_have_distinct_keys() -> None:
    assert redis_keys.job_key("x") != redis_keys.download_progress_key("x")


def test_b6_the_prefix_reaches_everything_that_writes_to_redis() -> None:
    code = (
        "from django.conf import settings as s;"
        "from chatsite import redis_keys as k;"
        "print(k.stream_key('g'), k.HOSTS, s.CACHES['default']['KEY_PREFIX'],"
        "s.CHANNEL_LAYERS['default']['CONFIG']['prefix'],"
        "s.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix'])"
    )
    env = {"CHATSITE_REDIS_PREFIX": "two:", "CHATSITE_DATA_DIR": str(settings.DATA_DIR)}
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=env | {"DJANGO_SETTINGS_MODULE": "chatsite.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    names = made.stdout.split()
    assert len(names) == 5
    assert all(name.startswith("two:") for name in names)
