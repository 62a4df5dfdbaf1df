"""Files that enter and leave the store."""

import fcntl
import hashlib
import os
import stat

import pytest

from chatsite.errors import ModelMissing
from models_admin.jobs.tasks import clean_partials
from models_admin.models import ModelName, ModelVersion
from models_admin.names import BadModelName
from models_admin.store import disk, files, versions
from tests.support.gguf import gguf, write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _own_store(data_dir):
    pass


@pytest.fixture
def tiny(tmp_path):
    return write(tmp_path / "tiny.gguf")


def stored(data_dir) -> set[str]:
    return {path.name for path in (data_dir / "models").iterdir() if path.is_file()} - {".lock"}


def test_a_file_is_stored_by_its_content(tiny, data_dir):
    model = files.import_file(tiny, "Tiny")
    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert (model.name, model.version.digest) == ("Tiny:latest", digest)
    assert model.version.size == tiny.stat().st_size
    assert model.version.source == str(tiny)
    assert model.version.path.read_bytes() == tiny.read_bytes()
    assert stored(data_dir) == {f"sha256-{digest}"}
    assert stat.S_IMODE(model.version.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(model.version.path.parent.stat().st_mode) == 0o700


def test_the_same_content_again_changes_nothing(tiny, tmp_path, data_dir):
    first = files.import_file(tiny, "tiny")
    inode = first.version.path.stat().st_ino
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(tiny.read_bytes())
    assert files.import_file(copy, "TINY:latest") == first
    other = files.import_file(copy, "other")
    assert other.version == first.version
    assert first.version.path.stat().st_ino == inode
    assert ModelVersion.objects.count() == 1
    assert len(stored(data_dir)) == 1


def test_a_name_moves_to_other_content(tiny, tmp_path):
    first = files.import_file(tiny, "tiny")
    ModelName.objects.update(enabled=False)
    second = files.import_file(write(tmp_path / "b.gguf", fill=b"\1"), "Tiny")
    assert second.pk == first.pk
    assert second.version != first.version
    second.refresh_from_db()
    assert (second.name, second.enabled) == ("tiny:latest", False)


def test_a_damaged_or_missing_file_is_healed_by_importing_again(tiny):
    path = files.import_file(tiny, "tiny").version.path
    path.write_bytes(b"short")
    files.import_file(tiny, "tiny")
    assert path.read_bytes() == tiny.read_bytes()
    path.unlink()
    files.import_file(tiny, "tiny")
    assert path.read_bytes() == tiny.read_bytes()


def test_moving_takes_the_file_away_without_a_copy(tiny):
    inode = tiny.stat().st_ino
    model = files.import_file(tiny, "tiny", move=True)
    assert not tiny.exists()
    assert model.version.path.stat().st_ino == inode
    assert stat.S_IMODE(model.version.path.stat().st_mode) == 0o600


def test_moving_a_stored_file_removes_the_source(tiny, tmp_path):
    files.import_file(tiny, "tiny")
    second = write(tmp_path / "second.gguf")
    path = files.import_file(second, "tiny", move=True).version.path
    assert not second.exists()
    assert path.exists()
    # The store's own file may be imported too, if its rows were lost.
    assert files.import_file(path, "tiny", move=True).version.path.exists()


def test_moving_a_file_that_others_may_write_to_copies_it(tiny, tmp_path):
    os.link(tiny, tmp_path / "second-name")
    inode = tiny.stat().st_ino
    model = files.import_file(tiny, "tiny", move=True)
    assert not tiny.exists()
    assert model.version.path.stat().st_ino != inode


def test_a_symbolic_link_is_copied_but_not_moved(tiny, tmp_path):
    link = tmp_path / "link.gguf"
    link.symlink_to(tiny)
    with pytest.raises(versions.ImportRefused, match="symbolic link"):
        files.import_file(link, "tiny", move=True)
    assert files.import_file(link, "tiny").version.path.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a GGUF"),
        (b"#!/bin/sh\n" * 100, "not a GGUF"),
        (gguf()[:-1], "truncated"),
        (gguf()[:40], "truncated"),
        (gguf(tensors=[]), "vocabulary"),
    ],
)
def test_an_invalid_model_is_refused_and_leaves_nothing(tmp_path, data_dir, content, reason):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(versions.ImportRefused, match=reason):
        files.import_file(path, "x")
    assert path.exists()
    assert not stored(data_dir)
    assert not ModelVersion.objects.exists()


def test_a_path_that_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "none", tmp_path):
        with pytest.raises(versions.ImportRefused, match=str(path)):
            files.import_file(path, "x")


def test_a_bad_name_is_refused_before_any_work(tiny, data_dir):
    with pytest.raises(BadModelName):
        files.import_file(tiny, "../../x")
    assert not (data_dir / "models").exists()


def test_a_file_that_grows_meanwhile_is_refused(tmp_path, data_dir):
    path = write(tmp_path / "big.gguf", tensors=[("w", 2 << 20)])

    def grow(_done, _total):
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(versions.ImportRefused, match="changed"):
        files.import_file(path, "x", progress=grow)
    assert not stored(data_dir)


def test_a_disk_without_room_is_refused_before_copying(tiny, monkeypatch, data_dir):
    monkeypatch.setattr(disk, "RESERVE", 1 << 60)
    with pytest.raises(disk.DiskFull, match="MB are free"):
        files.import_file(tiny, "tiny")
    assert not stored(data_dir)


def test_the_file_goes_with_its_last_name(tiny, data_dir):
    files.import_file(tiny, "a")
    versions.copy_name("A", "someone/b:x")
    versions.remove_name("a:LATEST")
    assert len(stored(data_dir)) == 1
    versions.remove_name("someone/b:x")
    assert not stored(data_dir)
    assert not ModelVersion.objects.exists()


def test_a_model_that_is_not_installed_can_be_neither_copied_nor_removed():
    with pytest.raises(ModelMissing):
        versions.copy_name("x", "y")
    with pytest.raises(ModelMissing):
        versions.remove_name("x")


def test_a_version_stays_while_a_name_may_go_back_to_it(tiny, tmp_path, data_dir):
    old = files.import_file(tiny, "tiny").version
    new = files.import_file(write(tmp_path / "b.gguf", fill=b"\1"), "tiny").version
    assert len(stored(data_dir)) == 2
    assert versions.rollback("tiny").version == old
    versions.drop_previous("tiny")
    assert stored(data_dir) == {old.path.name}
    assert not new.path.exists()
    with pytest.raises(versions.ImportRefused, match="no previous version"):
        versions.rollback("tiny")


def test_leftovers_go_and_files_in_the_making_stay(tiny, data_dir):
    left, held = (disk.folder() / f"{name}.part" for name in ("left", "held"))
    left.touch()
    with held.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        clean_partials()
        assert stored(data_dir) == {"held.part"}
    files.import_file(tiny, "tiny")
    assert "held.part" not in stored(data_dir)
