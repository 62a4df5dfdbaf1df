from __future__ import annotations

from pathlib import Path

import pytest

from chatsite.env import BadSetting
from chatsite.supervisor import arguments


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Restore the real environment, which `arguments.apply` changes."""
    for name in ("CHATSITE_HOST", "CHATSITE_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHATSITE_DATA_DIR", str(tmp_path / "from-environment"))
    return tmp_path


def test_options_win_over_the_environment(environ: Path) -> None:
    folder = environ / "from-option"
    environment = arguments.apply(["--port", "8123", "--host=::1", "--data-dir", str(folder)])
    assert environment is not None
    assert (environment.host, environment.port) == ("::1", 8123)
    assert environment.data_dir == folder
    assert (folder / "run").is_dir()


def test_a_relative_folder_becomes_absolute_for_children(
    environ: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.chdir(environ)
    arguments.apply(["--data-dir", "here"])
    assert os.environ["CHATSITE_DATA_DIR"] == str(environ / "here")


def test_a_bad_value_names_the_variable(environ: Path) -> None:
    with pytest.raises(BadSetting, match="CHATSITE_PORT='http'"):
        arguments.apply(["--port", "http"])


def test_help_touches_nothing(environ: Path) -> None:
    assert arguments.apply(["--help"]) is None
    assert not list(environ.iterdir())
