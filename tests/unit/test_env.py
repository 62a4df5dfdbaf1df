from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from chatsite import env
from chatsite.env import BadSetting, Environment


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the test run itself."""
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
        ("CHATSITE_ORIGINS", "chat.example.org", "must look like https://"),
        ("CHATSITE_ORIGINS", "https://*.example.org", "a wildcard would let any site"),
        ("CHATSITE_ORIGINS", "https://chat.example.org/path", "must look like https://"),
        ("CHATSITE_API_ORIGINS", "tool.example.org", "must look like https://"),
        ("CHATSITE_API_ORIGINS", "https://*.example.org", "must look like https://"),
        ("CHATSITE_ORIGINS", "http://::1:8000", "http://[::1]:8000"),
        ("CHATSITE_PATH_PREFIX", "chat", "must look like /chat"),
        ("CHATSITE_PATH_PREFIX", "/a b", "must look like /chat"),
        ("CHATSITE_TRUSTED_PROXIES", "proxy.example.org", "10.0.0.0/8"),
        ("CHATSITE_REDIS_URL", "localhost:6379", "must look like redis://"),
        ("CHATSITE_REDIS_URL", "redis://host:port", "must look like redis://"),
        ("CHATSITE_REDIS_URL", "redis://host:6379/main", "must look like redis://"),
        ("CHATSITE_REDIS_URL", "unix://", "unix:///path"),
        ("CHATSITE_REDIS_URL", "rediss://host?ssl_ca_certs=/nowhere", "can't be read"),
        ("CHATSITE_REDIS_URL", "redis://host?ssl_ca_certs=/dev/null", "needs TLS"),
        ("CHATSITE_REDIS_SENTINELS", "redis://host:26379", "must look like sentinel1"),
        ("CHATSITE_REDIS_SENTINELS", "host:port", "must look like sentinel1"),
        ("CHATSITE_NAME", "", "at least 1 character"),
        ("CHATSITE_NAME", "  ", "without control characters"),
        ("CHATSITE_NAME", "a\nb", "without control characters"),
        ("CHATSITE_NAME", "a\u2028b", "without control characters"),
        ("CHATSITE_NAME", "x" * 41, "at most 40 characters"),
        ("CHATSITE_SLOTS", "0", "greater than or equal to 1"),
        ("CHATSITE_KEEP_ALIVE", "5w", "must look like 5m"),
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


@pytest.mark.parametrize(
    "url",
    [
        *(
            "redis://host",
            "redis://:p%2Fw@[::1]:6379/1",
            "rediss://ann:pw@h:1/?ssl_ca_certs=/dev/null",
        ),
        *("unix:///run/redis.sock?db=2", "unix://ann:pw@/run/redis.sock", ""),
    ],
)
def test_house_5_2_addresses_of_redis(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CHATSITE_REDIS_URL", url)
    assert env.load().redis_url == url


@pytest.mark.parametrize(
    "url", ["", "unix:///run/redis.sock", "redis://:pw@10.0.0.1:6379/0", "rediss://:pw@/0"]
)
def test_sentinels_need_the_name_of_the_master(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CHATSITE_REDIS_URL", url)
    monkeypatch.setenv("CHATSITE_REDIS_SENTINELS", "one:26379,[::1]:5000,two")
    with pytest.raises(BadSetting, match=r"CHATSITE_REDIS_URL must have the name of the master"):
        env.load()


def test_addresses_of_sentinels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATSITE_REDIS_URL", "redis://:pw@mymaster/0")
    monkeypatch.setenv("CHATSITE_REDIS_SENTINELS", "one:5000,[::1]:5001,two")
    found = env.load().sentinel_addresses
    assert found == [("one", 5000), ("::1", 5001), ("two", 26379)]


def test_the_password_of_sentinels_needs_them_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATSITE_REDIS_SENTINEL_PASSWORD", "hunter2")
    with pytest.raises(BadSetting, match="CHATSITE_REDIS_SENTINELS is not") as caught:
        env.load()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "port"),
    [
        ("https://chat.example.org", 443),
        ("http://chat.example.org", 80),
        ("https://chat.example.org:8443", 8443),
    ],
)
def test_web_servers_of_several_machines_have_the_same_cookies(
    monkeypatch: pytest.MonkeyPatch, origin: str, port: int
) -> None:
    monkeypatch.setenv("CHATSITE_ORIGINS", origin)
    monkeypatch.setenv("CHATSITE_PORT", "8001")
    monkeypatch.delenv("CHATSITE_REDIS_URL", raising=False)
    assert env.load().cookie_port == 8001
    monkeypatch.setenv("CHATSITE_REDIS_URL", "redis://redis:6379/0")
    monkeypatch.setenv("DATABASE_URL", "postgres://db/chat")
    assert env.load().cookie_port == port


def test_house_5_2_an_address_that_is_refused_keeps_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATSITE_REDIS_URL", "redis://ann:p@ss/word@host:6379/main")
    with pytest.raises(BadSetting) as caught:
        env.load()
    assert "CHATSITE_REDIS_URL='redis://ann:…@host:6379/main'" in str(caught.value)


def test_all_invalid_values_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_t103_an_ipv6_host_is_bracketed_in_addresses_alone(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("CHATSITE_HOST", host)
    monkeypatch.setenv("CHATSITE_ORIGINS", "https://[2001:db8::7]/")
    environment = env.load()
    assert environment.host == "::1"
    assert environment.effective_origins == (
        "https://[2001:db8::7]",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
        "http://localhost:8000",
    )


def test_the_data_folder_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHATSITE_DATA_DIR", "data")
    assert env.load().data_dir == tmp_path / "data"


def test_the_database_setting_has_its_usual_name(monkeypatch: pytest.MonkeyPatch) -> None:
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
