"""Everything imported is declared, and everything declared is used."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGES = metadata.packages_distributions()
ROOT = Path(__file__).resolve().parents[2]
OWN = {"chatsite", "models_admin", "scripts", "tests"}
# Used without an import: Django's PostgreSQL backend, its argon2 hashes and time zones; a
# middleware named in settings.
NOT_IMPORTED = {"argon2-cffi", "psycopg", "servestatic", "tzdata"}
# Imported if installed: otherwise `bench --pages` skips the browser, and neither LDAP nor
# tracing can be configured.
OPTIONAL = {
    ("chatsite/bench/browser.py", "playwright"),
    ("chatsite/accounts/directory/ldap.py", "ldap"),
    ("chatsite/accounts/directory/ldap.py", "django_auth_ldap"),
    ("chatsite/tracing.py", "opentelemetry"),
}


def declared(name: str) -> set[str]:
    """Return the distributions of a file in `requirements/`."""
    lines = (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
    return {
        canonicalize_name(Requirement(line).name)
        for line in lines
        if line and not line.startswith(("#", "-"))
    }


def imported(path: Path) -> set[str]:
    """Return the top-level names of everything that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - OWN - sys.stdlib_module_names


def distributions(top: str) -> set[str]:
    """Return the distributions of a package.

    Several can share one: autobahn and daphne put plugins into Twisted's.
    """
    named: set[str] = {canonicalize_name(one) for one in PACKAGES[top]}
    own = {name for name in named if name.replace("-", "") == top.replace("_", "").lower()}
    return set(own or named)


FILES = sorted(
    path for folder in ("chatsite", "models_admin") for path in (ROOT / folder).rglob("*.py")
)
BENCH = [path for path in FILES if path.is_relative_to(ROOT / "chatsite" / "bench")]
PRODUCT = [path for path in FILES if path not in BENCH]


def undeclared(files: list[Path], known: set[str]) -> list[str]:
    return [
        f"{name}: {top}"
        for path in files
        for name in [path.relative_to(ROOT).as_posix()]
        for top in sorted(imported(path))
        if (name, top) not in OPTIONAL and not distributions(top) & known
    ]


def test_house_6_imports_of_the_product_are_declared_in_base_in() -> None:
    assert undeclared(PRODUCT, declared("base")) == []


def test_house_6_imports_of_benchmarks_are_declared_in_bench_in() -> None:
    assert undeclared(BENCH, declared("base") | declared("bench")) == []
    installed = declared("dev") | declared("ldap") | declared("otel")
    assert all(distributions(top) & installed for _file, top in OPTIONAL)


@pytest.mark.parametrize(("name", "files"), [("base", PRODUCT), ("bench", BENCH)])
def test_house_6_declared_packages_are_imported(name: str, files: list[Path]) -> None:
    used = set().union(*(distributions(top) for path in files for top in imported(path)))
    assert declared(name) - used - NOT_IMPORTED == set()


def test_house_6_packages_without_an_import_are_named_in_the_settings() -> None:
    settings = (ROOT / "chatsite" / "settings.py").read_text()
    assert re.search(r"\bservestatic\.", settings)
    assert "django.db.backends.postgresql" in settings
    assert declared("base") >= NOT_IMPORTED


def test_house_6_tools_of_set_up_are_declared_in_setup_in() -> None:
    scripts = "".join(path.read_text() for path in sorted((ROOT / "scripts").rglob("*.py")))
    assert {name for name in declared("setup") if f'"-m", "{name}' not in scripts} == set()


def test_house_6_no_package_is_declared_twice() -> None:
    names = ["base", "setup", "bench", "dev"]
    found = [name for file in names for name in declared(file)]
    assert len(found) == len(set(found))
