"""Models that come from this server's disk and go to it: files, bundles, uploads in pieces."""

from __future__ import annotations

import errno
import io
import json
import tarfile
from uuid import UUID

import pytest

from chatsite.errors import ChatsiteError, NotFound
from models_admin import bundle, custom, disk, inbox, store, versions
from models_admin.jobs import asking, importing, states
from models_admin.models import Job, JobState, ModelName
from tests.support.gguf import gguf, write
from tests.support.hub import names_in
from tests.support.jobs import done, said

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir", "redis_url", "sent", "hub"),
]


@pytest.fixture
def ann(django_user_model):
    return django_user_model.objects.create(username="ann")


def test_a_file_in_the_inbox_becomes_a_model(ann):
    file = write(inbox.folder() / "Tiny model.gguf")
    job = done(asking.import_file(file.name, by=ann)[0])
    assert (job.state, job.error) == (JobState.DONE, {})
    assert ModelName.objects.get().name == "Tiny-model:latest"
    assert file.exists()


@pytest.mark.parametrize("name", ["../secret.gguf", "/etc/passwd", "none.gguf", ""])
def test_nothing_outside_the_inbox_is_found(name):
    write(inbox.folder().parent / "secret.gguf")
    with pytest.raises(NotFound):
        asking.import_file(name)


def test_what_is_no_model_gets_no_name(ann):
    (inbox.folder() / "bad.gguf").write_bytes(b"GGUF and nothing behind it, for long enough")
    job = done(asking.import_file("bad.gguf", by=ann)[0])
    assert (job.state, job.error["code"]) == (JobState.FAILED, "import_refused")
    assert not ModelName.objects.exists()


def test_a_bundle_carries_models_to_another_server(tmp_path):
    store.import_file(write(tmp_path / "a.gguf"), "a")
    store.import_file(write(tmp_path / "b.gguf", fill=b"\1"), "b")
    custom.create("brief", "FROM a\nSYSTEM Be brief.")
    job = done(asking.export(["brief", "b", "A"])[0])
    assert job.state == JobState.DONE
    (written,) = importing.folder().iterdir()
    for name in ("a", "b", "brief"):
        versions.remove_name(name)
    assert not [name for name in names_in(disk.folder()) if name.startswith("sha256")]
    written.rename(inbox.folder() / "carried.tar")
    job = done(asking.import_file("carried.tar")[0])
    assert (job.state, job.error) == (JobState.DONE, {})
    assert set(ModelName.objects.values_list("name", flat=True)) == {
        "a:latest",
        "b:latest",
        "brief:latest",
    }
    assert custom.configuration("brief").system == "Be brief."
    assert all(model.version.path.exists() for model in ModelName.objects.all())
    # Once more brings nothing and harms nothing.
    assert "present" in said(done(asking.import_file("carried.tar")[0]))


def hostile(member: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        digest = "ab" * 32
        manifest = f'{{"version": 1, "models": [{{"name": "x", "digest": "{digest}"}}]}}'.encode()
        for name, text, type_ in (
            ("manifest.json", manifest, tarfile.REGTYPE),
            (member, content, kind),
        ):
            info = tarfile.TarInfo(name)
            info.size, info.type = len(text), type_
            info.linkname = "/etc/passwd"
            tar.addfile(info, io.BytesIO(text))
    return data.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        hostile(f"sha256-{'ab' * 32}", b"not what the digest says"),
        hostile(f"sha256-{'ab' * 32}", b"", tarfile.SYMTYPE),
        hostile("../../escaped", b"x"),
        hostile(f"sha256-{'ab' * 32}", b"x" * 5000)[:2048],
    ],
    ids=["content", "link", "path", "cut"],
)
def test_a_bundle_that_is_not_what_it_says_brings_nothing(content, tmp_path):
    (inbox.folder() / "bad.tar").write_bytes(content)
    job = done(asking.import_file("bad.tar")[0])
    assert (job.state, job.error["code"]) == (JobState.FAILED, "bad_bundle")
    assert not ModelName.objects.exists()
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize(
    "told",
    [
        {"configuration": {"messages": [["evil", "Hello."]]}},
        {"configuration": {"parameters": {"top_k": "many"}}},
        {"configuration": {"system": "a\x00b"}},
        {"name": "../x"},
    ],
)
def test_a_bundle_may_not_say_what_no_request_could_be_made_of(told, tmp_path):
    store.import_file(write(tmp_path / "a.gguf"), "a")
    model = ModelName.objects.get()
    manifest = {"version": 1, "models": [{"name": "b", "digest": model.version_id, **told}]}
    data = json.dumps(manifest).encode()
    info = tarfile.TarInfo("manifest.json")
    info.size = len(data)
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.addfile(info, io.BytesIO(data))
    with pytest.raises(ChatsiteError):
        bundle.read_manifest(tmp_path / "b.tar")


def test_an_upload_in_pieces_is_gone_on_with(ann, tmp_path, monkeypatch):
    monkeypatch.setattr(inbox, "PIECE_BYTES", 1000)
    content = write(tmp_path / "tiny.gguf").read_bytes()
    id = inbox.begin(str(ann.pk), len(content), "My tiny.gguf")
    with pytest.raises(inbox.UploadRefused):
        asking.import_upload(id, "", by=ann)
    arrived = 0
    while arrived < len(content):
        piece = content[arrived : arrived + 1000]
        arrived = inbox.append(id, str(ann.pk), arrived, io.BytesIO(piece))
        # The answer was lost: the piece comes again and is refused, with what there is.
        with pytest.raises(inbox.UploadRefused) as refused:
            inbox.append(id, str(ann.pk), arrived - len(piece), io.BytesIO(piece))
        assert refused.value.details == {"arrived": arrived}
    job = done(asking.import_upload(id, "sent:1", by=ann)[0])
    assert job.state == JobState.DONE
    assert ModelName.objects.get().version.path.read_bytes() == content
    assert names_in(disk.folder()) == {ModelName.objects.get().version.path.name}


def test_an_upload_is_bounded_and_its_owners_alone(ann, monkeypatch):
    monkeypatch.setattr(inbox, "PIECE_BYTES", 10)
    id = inbox.begin(str(ann.pk), 15, "x.gguf")
    with pytest.raises(inbox.UploadRefused):
        inbox.append(id, str(ann.pk), 0, io.BytesIO(b"x" * 11))
    assert inbox.arrived(id, str(ann.pk)) == 0
    assert inbox.append(id, str(ann.pk), 0, io.BytesIO(b"x" * 10)) == 10
    with pytest.raises(inbox.UploadRefused):
        inbox.append(id, str(ann.pk), 10, io.BytesIO(b"x" * 6))
    with pytest.raises(NotFound):
        inbox.arrived(id, "somebody else")
    with pytest.raises(NotFound):
        inbox.arrived(UUID(int=1), str(ann.pk))
    assert inbox.clean(set()) == []
    monkeypatch.setattr(inbox, "_ABANDONED_SECONDS", -1)
    assert inbox.clean({str(id)}) == []
    assert len(inbox.clean(set())) == 1


def test_an_upload_that_finds_the_disk_full_goes_on_later(ann, monkeypatch):
    def full(file, block):
        file.write(block[:3])
        raise OSError(errno.ENOSPC, "full")

    # No database takes the NUL in the name.
    id = inbox.begin(str(ann.pk), len(content := gguf()), "a\0b.gguf")
    inbox.append(id, str(ann.pk), 0, io.BytesIO(content[:8]))
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "_write", full)
        with pytest.raises(disk.DiskFull):
            inbox.append(id, str(ann.pk), 8, io.BytesIO(content[8:]))
    assert inbox.arrived(id, str(ann.pk)) == 8
    inbox.append(id, str(ann.pk), 8, io.BytesIO(content[8:]))
    job = asking.import_upload(id, "", by=ann)[0]
    assert job.options == {"file": "ab.gguf"}
    assert done(job).state == JobState.DONE


def test_a_bundle_of_what_was_removed_says_so(tmp_path):
    store.import_file(write(tmp_path / "a.gguf"), "a")
    model = store.import_file(write(tmp_path / "b.gguf", fill=b"\1"), "b")
    job = asking.export(["a", "b"])[0]
    model.version.path.unlink()
    ended = done(job)
    assert (ended.state, ended.error["code"]) == (JobState.FAILED, "model_not_found")
    assert "b:latest was removed" in ended.error["message"]
    job = asking.export(["a", "b"])[0]
    versions.remove_name("b")
    assert "b:latest was removed" in done(job).error["message"]
    assert names_in(importing.folder()) == set()


def test_a_bundle_of_a_missing_model_is_not_begun():
    with pytest.raises(Exception, match="not installed"):
        asking.export(["none"])
    assert not Job.objects.exists()


def test_a_bundle_without_a_manifest_is_none(tmp_path):
    with tarfile.open(inbox.folder() / "x.tar", "w") as tar:
        tar.add(write(tmp_path / "a.gguf"), "a.gguf")
    with pytest.raises(bundle.BadBundle):
        asking.import_file("x.tar")


def test_a_job_of_nobody_can_not_be_changed():
    with pytest.raises(states.JobMissing):
        states.pause(UUID(int=5))
