"""Rules of this code base that no other tool checks."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chatsite.env import Environment
from chatsite.management.commands.settings import markdown_rows, variable_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("chatsite", "models_admin", "scripts", "tests")
LINES_MAX = 350
LINES_USUAL = 300
# Share of files that may be longer than usual.
LONG_SHARE = 0.05
FOREIGN_TO_ENGINE = {"django", "redis", "channels", "celery"}
REGISTRIES = re.compile(r"https?://[^\s\"')]*(?:pypi|python-?hosted|npm|registry)", re.I)
WRITTEN = {".py", ".js", ".mjs", ".css", ".html", ".json", ".toml", ".txt", ".in", ".md", ".sh"}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def written_files() -> list[Path]:
    """Files that people write or lock, not what tools made of them."""
    skipped = {"node_modules", "dist", "build", "var", "__pycache__"}
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in skipped and (name == ".ci" or not name.startswith("."))
        ]
        found += [
            Path(folder, name)
            for name in names
            if Path(name).suffix in WRITTEN or name in {"Makefile", "run"}
        ]
    return found


def is_llama_backend(path: Path) -> bool:
    return path.parent == ROOT / "chatsite" / "engine" and path.name.startswith("llama_")


@pytest.mark.parametrize("path", python_files("chatsite/engine"), ids=lambda path: path.name)
def test_the_engine_knows_no_django_and_no_redis(path: Path) -> None:
    assert roots(path) & FOREIGN_TO_ENGINE == set()
    ours = {name for name in imported(path) if name.startswith(("chatsite.", "models_admin"))}
    assert {
        name
        for name in ours
        if not name.startswith(
            ("chatsite.engine", "chatsite.garbage", "chatsite.logs", "chatsite.supervisor")
        )
    } == set()


def test_only_the_llama_backend_imports_llama_cpp() -> None:
    importers = [
        path for path in python_files("chatsite", "models_admin") if "llama_cpp" in roots(path)
    ]
    assert [path for path in importers if not is_llama_backend(path)] == []


def test_set_up_needs_the_standard_library_alone() -> None:
    allowed = {*sys.stdlib_module_names, "scripts", "chatsite"}
    for path in python_files("scripts"):
        assert roots(path) <= allowed, path
        ours = {name for name in imported(path) if name.startswith("chatsite")}
        for name in ours:
            module = ROOT / f"{name.replace('.', '/')}.py"
            if module.is_file():
                assert roots(module) <= set(sys.stdlib_module_names), module


def test_files_stay_small() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in python_files(*PACKAGES)}
    assert [str(path) for path, length in lengths.items() if length > LINES_MAX] == []
    long = [str(path) for path, length in lengths.items() if length > LINES_USUAL]
    assert len(long) <= LONG_SHARE * len(lengths), long


def test_every_setting_in_the_readme_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    known = {variable_of(name) for name in Environment.model_fields}
    assert set(re.findall(r"\bCHATSITE_[A-Z_]+\b", readme)) <= known


def test_the_readme_has_the_settings_as_they_are() -> None:
    assert "\n".join(markdown_rows()) in (ROOT / "README.md").read_text()


def test_no_registry_address_is_written_down() -> None:
    own = Path(__file__).resolve()
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in written_files()
        if path != own and (match := REGISTRIES.search(path.read_text(errors="replace")))
    ]
    assert found == []


def test_every_locked_package_has_hashes() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = re.sub(r"(?m)^\s*#.*$", "", lock.read_text()).replace("\\\n", " ")
        for line in filter(str.strip, text.splitlines()):
            assert "==" in line, f"{lock.name}: {line[:60]}"
            assert "--hash=sha256:" in line, f"{lock.name}: {line[:60]}"


def test_the_package_itself_does_nothing() -> None:
    assert (ROOT / "chatsite" / "__init__.py").read_text() == ""


def test_importing_does_no_work(tmp_path: Path) -> None:
    """Importing every module of ours opens no connection, starts no process or thread, and
    writes no file but the secret key, which the settings need."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in python_files("chatsite", "models_admin")
        if "migrations" not in path.parts
        and path.name != "__main__.py"
        and not is_llama_backend(path)
    ]
    script = f"""
import importlib, socket, subprocess, threading

def refuse(*_, **__):
    raise AssertionError("work at import")

import django
django.setup()
import asyncio  # whose import is allowed what ours is not
socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = refuse
subprocess.Popen.__init__ = refuse
threads = threading.active_count()
for name in {modules!r}:
    importlib.import_module(name)
assert threading.active_count() == threads, threading.enumerate()
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CHATSITE_")
    }
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={
            **environment,
            "CHATSITE_DATA_DIR": str(tmp_path / "data"),
            "DJANGO_SETTINGS_MODULE": "chatsite.settings",
            "PYTHONPATH": str(ROOT),
        },
        check=True,
    )
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret_key"]
