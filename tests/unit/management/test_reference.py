"""Generation of the reference pages does not load native libraries."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.stack import ROOT

_PAGES = """\
import sys

import django

django.setup()
from chatsite.management import reference

reference.pages()
assert "chatsite.engine.batching.loop" in sys.modules
assert "llama_cpp" not in sys.modules
"""


def test_pages_are_generated_without_llama_cpp() -> None:
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "chatsite.settings"}
    result = subprocess.run(
        [sys.executable, "-c", _PAGES], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
