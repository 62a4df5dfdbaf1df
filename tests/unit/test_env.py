from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from chatsite import env
from chatsite.env import BadSetting, Environment


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the test run itself."""
    for name in Environment.model_fields:
        monkeypatch.delenv(f"CHATSITE_{name.upper()}", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CHATSITE_PORT", "http", "valid integer"),
        ("CHATSITE_PORT", "70000", "less than or equal to 65535"),
        ("CHATSITE_DEBUG", "maybe", "valid boolean"),
        ("CHATSITE_LOG_FORMAT", "xml", "'text' or 'json'"),
        ("CHATSITE_LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("CHATSITE_ORIGINS", "chat.example.org", "is not like https://"),
        ("CHATSITE_ORIGINS", "https://*.example.org", "a wildcard would let any site"),
        ("CHATSITE_ORIGINS", "https://chat.example.org/path", "is not like https://"),
        ("CHATSITE_API_ORIGINS", "tool.example.org", "is not like https://"),
        ("CHATSITE_API_ORIGINS", "https://*.example.org", "is not like https://"),
        ("CHATSITE_SLOTS", "0", "greater than or equal to 1"),
        ("CHATSITE_KEEP_ALIVE", "5w", "is not like 5m"),
    ],
)
def test_a_bad_value_stops_the_start_with_its_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSetting) as caught:
        env.load()
    assert f"{variable}={value!r}" in str(caught.value)
    assert words in str(caught.value)


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATSITE_PORT", "x")
    monkeypatch.setenv("CHATSITE_SLOTS", "x")
    with pytest.raises(BadSetting, match=r"(?s)CHATSITE_PORT.*CHATSITE_SLOTS"):
        env.load()


def test_the_hint_is_the_settings_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATSITE_PORT", "x")
    with pytest.raises(BadSetting, match=r"\(Port that the web server binds\.\)"):
        env.load()


def test_every_setting_is_described() -> None:
    assert [name for name, field in Environment.model_fields.items() if not field.description] == []


def test_origins_are_split_and_joined_with_the_loopback_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATSITE_ORIGINS", "https://a.example.org, http://b:81 ,")
    assert env.load().effective_origins == (
        "https://a.example.org",
        "http://b:81",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
        "http://localhost:8000",
    )


def test_a_wildcard_address_is_no_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATSITE_HOST", "0.0.0.0")
    assert not any("0.0.0.0" in origin for origin in env.load().effective_origins)


def test_the_data_folder_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHATSITE_DATA_DIR", "data")
    assert env.load().data_dir == tmp_path / "data"


def test_the_database_has_the_name_that_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://u@h/n")
    assert env.load().database_url == "postgres://u@h/n"


def test_our_redis_listens_in_the_data_folder(tmp_path: Path) -> None:
    environment = Environment(data_dir=Path("/srv/chat"))
    assert environment.redis_socket == Path("/srv/chat/run/redis.sock")
    assert environment.effective_redis_url == "unix:///srv/chat/run/redis.sock"


def test_a_long_path_gets_a_socket_that_the_kernel_takes() -> None:
    first = Environment(data_dir=Path("/srv") / ("a" * 120))
    second = Environment(data_dir=Path("/srv") / ("b" * 120))
    assert len(str(first.redis_socket)) <= 100
    assert first.redis_socket.is_relative_to(tempfile.gettempdir())
    assert first.redis_socket != second.redis_socket


def test_a_given_redis_wins() -> None:
    environment = Environment(redis_url="redis://r:6379/0")
    assert environment.effective_redis_url == "redis://r:6379/0"


@pytest.mark.parametrize(("written", "seconds"), [("5m", 300), ("3600", 3600), ("-1", -1)])
def test_how_long_models_stay(monkeypatch: pytest.MonkeyPatch, written: str, seconds: int) -> None:
    monkeypatch.setenv("CHATSITE_KEEP_ALIVE", written)
    assert env.load().keep_alive == seconds
