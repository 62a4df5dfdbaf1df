from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chatsite.secrets import UnreadableSecret, decrypt, encrypt, stored_key


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    key = stored_key(path)
    assert len(key) >= 80
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert stored_key(path) == key


def test_two_folders_have_two_keys(tmp_path: Path) -> None:
    assert stored_key(tmp_path / "a") != stored_key(tmp_path / "b")


def test_concurrent_readers_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: stored_key(tmp_path / "key"), range(64)))
    assert len(keys) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_its_text_fits_an_address(tmp_path: Path) -> None:
    key = stored_key(tmp_path / "token", size=24)
    assert len(key) == 32
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def test_an_encrypted_secret_is_read_with_the_same_key_and_purpose_only() -> None:
    sealed = encrypt("sk-abc", "secret key", "engines")
    assert "sk-abc" not in sealed
    assert decrypt(sealed, "secret key", "engines") == "sk-abc"
    for key, purpose in (("other key", "engines"), ("secret key", "other")):
        with pytest.raises(UnreadableSecret):
            decrypt(sealed, key, purpose)
    with pytest.raises(UnreadableSecret):
        decrypt("damaged", "secret key", "engines")
