"""Imports that are killed, fill the disk, or race with each other. Real processes."""

import json
import resource
from pathlib import Path

import pytest

from models_admin.store import disk, files
from tests.support.gguf import write
from tests.support.installation import go, heard, manage, python

SIZE = 3 << 20

HELD = """
import sys
from pathlib import Path
import django
django.setup()
from models_admin.store import files

def hold(done, total):
    print("writing", flush=True)
    sys.stdin.readline()

files.import_file(Path(sys.argv[1]), "held", progress=hold)
"""


@pytest.fixture
def model(tmp_path):
    return write(tmp_path / "model.gguf", tensors=[("w", SIZE // 4)])


@pytest.fixture
def folder(migrated, settings):
    """Return the model directory of the installation that the processes of a test share."""
    settings.DATA_DIR = Path(migrated["CHATSITE_DATA_DIR"])
    return disk.folder()


def installed(env) -> list[str]:
    return [row["name"] for row in json.loads(manage(env, "models", "list", "--json").stdout)]


def test_a_killed_import_leaves_a_part_that_the_next_one_removes(migrated, model, folder):
    process = python(migrated, HELD, str(model))
    assert heard(process) == "writing"
    assert len(list(folder.glob("*.part"))) == 1
    assert files.clean_partials() == []  # it is being written
    process.kill()
    process.communicate()
    assert len(list(folder.glob("*.part"))) == 1
    assert installed(migrated) == []
    done = manage(migrated, "models", "import", str(model), "--name", "x")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name[:7] for path in folder.iterdir()) == [".lock", "sha256-"]
    assert installed(migrated) == ["x:latest"]


def test_a_full_disk_leaves_nothing(migrated, model, folder):
    limit = (2 << 20, 2 << 20)  # enough for SQLite, but not for the model
    done = manage(
        migrated,
        *("models", "import", str(model), "--name", "x"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: The disk of the data folder is full")
    assert [path.name for path in folder.iterdir()] == [".lock"] or not list(folder.iterdir())
    assert installed(migrated) == []


def test_two_concurrent_imports_of_one_file_end_as_one(migrated, model, folder):
    racers = [python(migrated, HELD, str(model)) for _ in range(2)]
    for racer in racers:
        assert heard(racer) == "writing"
    for racer in racers:
        go(racer)
    for racer in racers:
        racer.communicate(timeout=60)
        assert racer.returncode == 0
    assert installed(migrated) == ["held:latest"]
    assert sorted(path.name[:7] for path in folder.iterdir()) == [".lock", "sha256-"]
