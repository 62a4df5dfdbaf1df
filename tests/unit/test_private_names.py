"""Private names of libraries: used in one place each, declared, tested, and tied to versions."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from chatsite import checks, supported

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    path
    for folder in ("chatsite", "models_admin", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "migrations" not in path.parts
]
OWN = ("chatsite", "models_admin", "scripts", "tests")
# Documented by Python and Django in spite of the underscore.
DOCUMENTED = {
    *("_asdict", "_exit", "_fields", "_replace"),
    *("_base_manager", "_db", "_default_manager", "_meta", "_state"),
}
# Of the standard library; Python has no public access to the arguments of a parser.
STANDARD = {"_SubParsersAction", "_actions", "_choices_actions"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def declared(tree: ast.Module) -> dict[str, str]:
    """Return the `PRIVATE_NAMES` of a module."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "PRIVATE_NAMES":
            assert node.value is not None
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    return {}


TREES = {path: ast.parse(path.read_text()) for path in FILES}
FENCES = {path: names for path, tree in TREES.items() if (names := declared(tree))}
NAMES = sorted(name for names in FENCES.values() for name in names)


def resolve(name: str) -> tuple[Any, str]:
    """Return the module or class that contains the last part of ``name``, and that part."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:count])
        try:
            if importlib.util.find_spec(module) is None:
                continue
        except ModuleNotFoundError:
            continue
        owner: Any = importlib.import_module(module)
        for part in parts[count:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise LookupError(name)


@cache
def names_of_instances(owner: type) -> frozenset[str]:
    """Return the names that the source of a class assigns on ``self``."""
    try:
        source = inspect.getsource(owner)
    except (OSError, TypeError):
        return frozenset()
    return frozenset(re.findall(r"\bself\.(\w+)(?:: [^=\n]+)? = ", source)) | frozenset(
        re.findall(r"\bself, \"(\w+)\"", source)
    )


def test_house_5_3_the_fences_are_known() -> None:
    """One per pair of libraries; a new one needs a reason and a version range."""
    tops = [sorted({name.partition(".")[0] for name in names}) for names in FENCES.values()]
    assert sorted(tops) == [
        ["allauth"],
        ["asgiref", "django"],
        ["daphne", "twisted"],
        ["llama_cpp"],
    ]
    assert all(len(reason) > 10 for names in FENCES.values() for reason in names.values())


@pytest.mark.parametrize("name", NAMES)
def test_house_5_3_each_private_name_is_there(name: str) -> None:
    owner, last = resolve(name)
    assert hasattr(owner, last) or last in names_of_instances(owner)


@pytest.mark.parametrize("name", NAMES)
def test_house_5_3_each_private_name_is_used_where_it_is_declared(name: str) -> None:
    (path,) = (path for path, names in FENCES.items() if name in names)
    text = path.read_text().replace(f'"{name}"', "")
    assert re.search(rf"\b{name.rpartition('.')[2]}\b", text)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("twisted.web.http.HTTPChannel._send100Continue", ("self",)),
        ("twisted.web.http.Request._cleanup", ("self",)),
        ("django.core.handlers.base.BaseHandler._get_response_async", ("self", "request")),
    ],
)
def test_house_5_3_private_methods_accept_the_given_arguments(
    name: str, arguments: tuple[str, ...]
) -> None:
    owner, last = resolve(name)
    assert tuple(inspect.signature(getattr(owner, last)).parameters) == arguments


def test_house_5_3_attempts_are_counted_by_an_action_and_a_key() -> None:
    from allauth.core.internal import ratelimit

    bound = inspect.signature(ratelimit.consume).bind(None, app="a", action="b", key="c")
    assert {"action", "key"} <= set(bound.arguments)


def test_house_5_3_the_libraries_create_the_replaced_classes() -> None:
    """The library creates the classes that `patches.install` replaces."""
    from daphne import cli, http_protocol, server, ws_protocol
    from twisted.internet import tcp

    assert server.HTTPFactory is http_protocol.HTTPFactory
    assert server.WebSocketFactory is ws_protocol.WebSocketFactory
    assert cli.CommandLineInterface.server_class is server.Server
    assert tcp.Port.transport is tcp.Server
    run = textwrap.dedent(inspect.getsource(server.Server.run))
    assert "HTTPFactory(self)" in run
    assert "WebSocketFactory(self" in run
    assert "self.transport(" in inspect.getsource(tcp.Port.doRead)
    assert "self.server_class(" in inspect.getsource(cli.CommandLineInterface.run)


def test_house_5_3_allauth_takes_the_attempt_back_under_the_name_that_we_set() -> None:
    from allauth.account.adapter import DefaultAccountAdapter

    source = inspect.getsource(DefaultAccountAdapter._rollback_login_failed_rl_usage)
    assert '"_login_failed_rl_usage"' in source
    assert ".rollback()" in source


def own_names(tree: ast.AST) -> set[str]:
    """Return the private names that a module defines: functions, classes, variables, attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return {name for name in found if is_private(name)}


OWN_NAMES = {path: own_names(tree) for path, tree in TREES.items()}
ALL_OWN = set().union(*OWN_NAMES.values())


def private_uses(path: Path) -> Iterator[str]:
    """Yield the foreign private names that a module uses, as ``line: name``."""
    for node in ast.walk(TREES[path]):
        used = []
        if isinstance(node, ast.Attribute):
            used = [node.attr]
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(OWN):
            used = [*(node.module or "").split("."), *(name.name for name in node.names)]
        elif isinstance(node, ast.Import):
            used = [part for name in node.names for part in name.name.split(".")]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in {"getattr", "setattr", "hasattr", "delattr"}
            and isinstance(node.args[1], ast.Constant)
        ):
            used = [str(node.args[1].value)]
        for name in used:
            if is_private(name) and name not in ALL_OWN | DOCUMENTED | STANDARD:
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name}"


def replaced_globals(path: Path) -> Iterator[str]:
    """Yield attributes of imported modules and classes that a module assigns, as ``line: name``."""
    imported: dict[str, str] = {}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            imported |= {(n.asname or n.name.partition(".")[0]): n.name for n in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {(n.asname or n.name): f"{node.module}.{n.name}" for n in node.names}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            first = ast.unparse(node).partition(".")[0]
            known = (*OWN, *sys.stdlib_module_names)
            if first in imported and imported[first].partition(".")[0] not in known:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def test_house_5_3_no_other_module_uses_private_names() -> None:
    found = [use for path in FILES if path not in FENCES for use in private_uses(path)]
    assert found == []
    replaced = [use for path in FILES if path not in FENCES for use in replaced_globals(path)]
    assert replaced == []


@pytest.mark.parametrize("path", FENCES, ids=lambda path: path.name)
def test_house_5_3_a_fence_uses_exactly_the_names_it_declares(path: Path) -> None:
    known = {part for name in FENCES[path] for part in name.split(".")}
    assert [use for use in private_uses(path) if use.rpartition(" ")[2] not in known] == []
    replaced = {use.rpartition(".")[2] for use in replaced_globals(path)}
    assert replaced <= known


def classes(name: str, tree: ast.Module) -> Iterator[tuple[type, ast.ClassDef]]:
    """Yield the top-level classes of a module."""
    module = importlib.import_module(name)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield getattr(module, node.name), node


def importable() -> dict[str, ast.Module]:
    """Return the modules that can be imported without starting anything."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): tree
        for path, tree in TREES.items()
        if path.name != "__main__.py"
    }


def test_house_5_3_our_names_hide_no_private_names_of_bases() -> None:
    """A method must not override a private one of a library's class by accident."""
    known = {name.rpartition(".")[2] for name in NAMES}
    found, seen = [], 0
    for name, tree in importable().items():
        for one, node in classes(name, tree):
            bases = [
                base
                for base in one.__mro__[1:]
                if base.__module__.partition(".")[0] not in {*OWN, *sys.stdlib_module_names}
            ]
            if bases:
                seen += 1
                ours = own_names(node)
                for base in bases:
                    hits = ours & {*vars(base), *names_of_instances(base)} - known
                    found += [f"{name}.{one.__name__}: {hit}" for hit in hits]
    assert seen > 100
    assert found == []


def test_house_5_3_each_fence_has_a_range_and_base_in_has_the_same() -> None:
    distributions = {"allauth": "django-allauth", "llama_cpp": "llama-cpp-python"}
    tops = {name.partition(".")[0] for name in NAMES}
    assert {distributions.get(top, top) for top in tops} <= set(supported.RANGES)
    lines = (ROOT / "requirements" / "base.in").read_text().splitlines()
    wanted = {
        requirement.name: requirement.specifier
        for line in lines
        if line and not line.startswith(("#", "-"))
        for requirement in [Requirement(line)]
    }
    for name, range_ in supported.RANGES.items():
        assert wanted[name] == Requirement(name + range_).specifier, name


def test_house_5_3_the_installed_versions_are_supported() -> None:
    assert supported.problems() == []
    assert checks.libraries(None) == []
    supported.require()


@pytest.mark.parametrize(
    ("version", "known"),
    [("4.2.3", True), ("4.2.9", True), ("4.3.1", False), ("4.2.2", False), ("4.3.0rc1", False)],
)
def test_house_5_3_an_unknown_version_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, version: str, known: bool
) -> None:
    installed = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: version if name == "daphne" else installed(name)
    )
    expected = [] if known else [f"daphne {version} is not supported"]
    assert [text.partition(" by ")[0] for text in supported.problems()] == expected
    found = checks.libraries(None)
    assert [problem.id for problem in found] == ["chatsite.E005"] * len(expected)
    supported.require("django")
    if not known:
        assert "install 'daphne>=4.2.3,<4.3'" in found[0].msg
        with pytest.raises(supported.Unsupported, match=re.escape(f"daphne {version}")):
            supported.require("daphne", "twisted")


def test_house_5_3_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert supported.problems("twisted") == ["twisted is not installed: run `make setup`."]


@pytest.mark.parametrize("program", [["-m", "chatsite.web.daphne", "--help"], ["manage.py", "up"]])
def test_house_5_3_programs_do_not_start_with_an_unknown_version(
    tmp_path: Path, program: list[str]
) -> None:
    """A real distribution of another version comes first on the path."""
    other = tmp_path / "daphne-4.3.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: daphne\nVersion: 4.3.1\n")
    result = subprocess.run(
        [sys.executable, *program],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "CHATSITE_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "daphne 4.3.1 is not supported by this version of the site" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data" / "run" / "children.json").exists()
