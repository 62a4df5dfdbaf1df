"""What is installed for each purpose, and when llama.cpp is recompiled."""

import json
from pathlib import Path

import pytest

from scripts.setup.console import Problem
from scripts.setup.paths import REQUIREMENTS
from scripts.setup.python_env import built_otherwise, extended, extras, locks

KEY = "cmake.define.CHATSITE_BUILD"


@pytest.mark.parametrize(
    ("content", "rebuilt"),
    [
        (json.dumps({"config_settings": {KEY: "mine"}}), False),
        (json.dumps({"config_settings": {KEY: "with CUDA"}}), True),
        (json.dumps({"config_settings": {}}), True),
        ("{", True),
        (None, True),
    ],
)
def test_a_build_with_other_options_is_made_again(
    tmp_path: Path, content: str | None, rebuilt: bool
) -> None:
    folder = tmp_path / "lib/python3.11/site-packages/llama_cpp_python-0.3.36.dist-info"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "uv_build.json").write_text(content)
    assert built_otherwise(tmp_path, "mine") is rebuilt


def test_a_missing_build_is_not_rebuilt(tmp_path: Path) -> None:
    assert not built_otherwise(tmp_path, "mine")


@pytest.mark.parametrize("kind", ["base", "bench", "dev"])
def test_house_6_each_purpose_installs_locks_that_are_made(kind: str) -> None:
    assert all(path.with_suffix(".in").exists() for path in locks(kind))
    assert (REQUIREMENTS / "base.txt" in locks(kind)) is (kind != "dev")


def test_house_6_tools_that_are_installed_stay(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert extended("base", tmp_path) == "base"
    (tmp_path / "bin" / "websockets").touch()
    assert extended("base", tmp_path) == extended("bench", tmp_path) == "bench"
    (tmp_path / "bin" / "pytest").touch()
    assert extended("base", tmp_path) == extended("bench", tmp_path) == "dev"


def test_extras_are_installed_by_name_and_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert extras("base", tmp_path) == []
    monkeypatch.setenv("EXTRAS", "ldap")
    assert extras("base", tmp_path) == extras("bench", tmp_path) == ["ldap"]
    assert extras("dev", tmp_path) == []  # has it already
    monkeypatch.setenv("EXTRAS", "ldap,kerberos")
    with pytest.raises(Problem, match="kerberos is unknown"):
        extras("base", tmp_path)
    monkeypatch.delenv("EXTRAS")
    (tmp_path / "lib/python3.11/site-packages/django_auth_ldap").mkdir(parents=True)
    assert extras("base", tmp_path) == ["ldap"]


def test_an_extra_is_locked_beside_base() -> None:
    """Both are installed together: one version of each package."""

    def pins(name: str) -> dict[str, str]:
        lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
        return dict(
            line.split(" ")[0].split("==")
            for line in lines
            if "==" in line[:60] and line[0] not in " #"
        )

    base = pins("base")
    shared = {name: version for name, version in pins("ldap").items() if name in base}
    assert shared
    assert shared.items() <= base.items()
