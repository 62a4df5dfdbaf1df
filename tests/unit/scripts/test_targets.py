"""The targets of `make` are the commands of the set-up script."""

from __future__ import annotations

import re

from scripts.setup.__main__ import TARGETS
from scripts.setup.paths import ROOT


def test_the_makefile_has_all_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (listed,) = re.findall(r"(?m)^TARGETS := (.+)$", makefile)
    assert listed.split() == list(TARGETS)
    assert makefile.startswith(f"# make {' | '.join(TARGETS)}\n")
