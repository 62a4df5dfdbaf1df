"""The notices list what the lock files install and what browsers receive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import notices
from scripts.setup.paths import REQUIREMENTS

WRITTEN = notices.NOTICES.read_text()


def rows(heading: str) -> list[tuple[str, str, str]]:
    """Return the rows of the table below a heading: name, version, licence."""
    section = WRITTEN.split(f"## {heading}\n", 1)[1].split("\n#", 1)[0]
    return re.findall(r"(?m)^\| (\S+) \| (\d\S*) \| (.+) \|$", section)


def test_the_notices_have_the_locked_python_packages() -> None:
    written = [(name, version) for name, version, _ in rows("Python packages")]
    assert written == notices.pinned(REQUIREMENTS / "base.txt"), "python -m scripts.notices"


def test_the_notices_have_the_packages_of_the_bundle() -> None:
    written = [(name, version) for name, version, _ in rows("Packages in the page's bundle")]
    assert written == notices.bundled(), "python -m scripts.notices"
    assert "katex" in dict(written)
    assert "esbuild" not in dict(written)
    assert "prettier" not in dict(written)


def test_the_notices_name_the_locked_redis() -> None:
    (redis,) = notices.pinned(REQUIREMENTS / "redis.txt")
    assert f"`{redis.name}` {redis.version}:" in WRITTEN


def test_licences_are_those_of_the_installed_packages() -> None:
    """Licences rarely change; the table must not contradict the metadata."""
    for name, _version, licence in rows("Python packages"):
        assert licence == notices.python_licence(name), name


def test_a_lock_is_read_with_extras_and_markers(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "# made by a tool\n"
        "one[binary]==1.0 \\\n    --hash=sha256:aa\n"
        "two==2.0 ; python_full_version < '3.12' \\\n    --hash=sha256:bb\n"
        "two==2.1\n    # via one==9\n"
    )
    assert notices.pinned(lock) == [("one", "1.0"), ("two", "2.0"), ("two", "2.1")]


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(SystemExit, match="no-such-package is not installed"):
        notices.python_licence("no-such-package")
