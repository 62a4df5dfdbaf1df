from __future__ import annotations

from pathlib import Path

from scripts.setup import pip_config

LISTING = """\
:env:.cert='/etc/ssl/own.crt'
:env:.default-timeout='180'
:env:.disable-pip-version-check='1'
global.cert='/etc/ssl/other.crt'
global.extra-index-url='file:///srv/a/simple\\nfile:///srv/b/simple'
global.index-url='https://mirror.example.org/simple'
global.trusted-host='mirror.example.org'
"""


def test_an_option_of_the_environment_wins() -> None:
    assert pip_config.parse(LISTING)["cert"] == "/etc/ssl/own.crt"


def test_invalid_lines_are_ignored() -> None:
    assert pip_config.parse("WARNING: something\nglobal.x=not quoted\n\n") == {}


def test_uv_gets_the_same_options() -> None:
    assert pip_config.for_uv(pip_config.parse(LISTING), {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example.org/simple",
        "UV_EXTRA_INDEX_URL": "file:///srv/a/simple file:///srv/b/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "mirror.example.org",
        "SSL_CERT_FILE": "/etc/ssl/own.crt",
        "UV_HTTP_TIMEOUT": "180",
    }


def test_nothing_set_changes_nothing() -> None:
    assert pip_config.for_uv({}, {}) == {}


def test_settings_of_uv_itself_win() -> None:
    options = pip_config.parse(LISTING)
    told = pip_config.for_uv(options, {"UV_INDEX_URL": "https://own", "UV_HTTP_TIMEOUT": "9"})
    assert "UV_DEFAULT_INDEX" not in told
    assert "UV_HTTP_TIMEOUT" not in told


def test_a_folder_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    links = f"{tmp_path} {tmp_path / 'none'} https://mirror.example.org/links"
    told = pip_config.for_uv({"find-links": links}, {})
    assert told == {"UV_FIND_LINKS": f"{tmp_path},https://mirror.example.org/links"}
    assert pip_config.for_uv({"find-links": str(tmp_path / "none")}, {}) == {}
