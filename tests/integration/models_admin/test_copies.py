"""When a host wants a copy of a model with faster weights."""

from __future__ import annotations

import pytest

from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning.probe import Measured
from chatsite.engine.tuning.store import Entry, Tried
from chatsite.inference import assemble
from models_admin.models import ModelVersion
from models_admin.store import disk, files

pytestmark = pytest.mark.django_db

FILE = Tuning(False, False, 2)
COPY = Tuning(False, False, 2, weights="Q8_0")
TRIED = tuple(Tried(tuning, Measured(4.0, 8.0, 512)) for tuning in (FILE, COPY))


@pytest.fixture
def version(starter_model, data_dir) -> ModelVersion:
    return files.import_file(starter_model, "starter").version


def set_to(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    monkeypatch.setattr(assemble, "ENV", assemble.ENV.model_copy(update=values))


def test_it_is_wanted_until_it_is_known_not_to_pay(version):
    wanted = disk.copy_of(version.digest)
    assert assemble.copy_for(version, None) == wanted
    assert assemble.copy_for(version, Entry(None, TRIED[:1])) == wanted
    assert assemble.copy_for(version, Entry(FILE, TRIED[:1])) == wanted
    assert assemble.copy_for(version, Entry(COPY, TRIED)) == wanted
    assert assemble.copy_for(version, Entry(FILE, TRIED)) is None


def test_an_administrator_may_switch_copies_off(version, monkeypatch):
    set_to(monkeypatch, fast_weights=False)
    assert assemble.copy_for(version, None) is None


def test_it_takes_a_small_part_of_the_memory_for_models(version, monkeypatch):
    set_to(monkeypatch, memory_mb=300)
    assert assemble.copy_for(version, None) is None
    set_to(monkeypatch, memory_mb=500)
    assert assemble.copy_for(version, None)


def test_it_is_made_where_there_is_room_and_kept_where_it_is(version, monkeypatch):
    monkeypatch.setattr(disk, "RESERVE", 1 << 62)
    assert assemble.copy_for(version, None) is None
    copy = disk.copy_of(version.digest)
    copy.folder.mkdir()
    copy.path.touch()
    assert assemble.copy_for(version, None) == copy


def test_copies_that_are_not_wanted_go_at_the_start(data_dir):
    copy = disk.copy_of("gone")
    copy.folder.mkdir()
    copy.path.touch()
    assemble.tidy_copies()
    assert not copy.exists
