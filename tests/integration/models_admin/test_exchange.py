"""Import and export of models on the server's disk: files, bundles, uploads in parts."""

from __future__ import annotations

import errno
import io
import json
import re
import tarfile
from uuid import UUID

import pytest

from chatsite.errors import ChatsiteError, NotFound
from models_admin.config import custom
from models_admin.jobs import bundle, enqueue, importing, incoming, requests, states
from models_admin.models import Job, JobState, ModelName
from models_admin.store import disk, files, versions
from tests.support import tiny_model
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
    file = write(incoming.folder() / "Tiny model.gguf")
    job = done(enqueue.import_file(file.name, by=ann)[0])
    assert (job.state, job.error) == (JobState.DONE, {})
    assert ModelName.objects.get().name == "Tiny-model:latest"
    assert file.exists()


@pytest.mark.parametrize(("template", "base"), [(None, True), (tiny_model.TEMPLATE, False)])
def test_the_log_of_an_import_says_that_it_is_a_base_model(ann, template, base):
    file = tiny_model.write(incoming.folder() / "model.gguf", template=template)
    job = done(enqueue.import_file(file.name, by=ann)[0])
    assert job.state == JobState.DONE
    assert ("base" in said(job)) is base


@pytest.mark.parametrize("name", ["../secret.gguf", "/etc/passwd", "none.gguf", ""])
def test_nothing_outside_the_inbox_is_found(name):
    write(incoming.folder().parent / "secret.gguf")
    with pytest.raises(NotFound):
        enqueue.import_file(name)


def test_an_invalid_model_file_gets_no_name(ann):
    (incoming.folder() / "bad.gguf").write_bytes(b"GGUF and nothing behind it, for long enough")
    job = done(enqueue.import_file("bad.gguf", by=ann)[0])
    assert (job.state, job.error["code"]) == (JobState.FAILED, "import_refused")
    assert not ModelName.objects.exists()


def test_a_bundle_carries_models_to_another_server(tmp_path):
    files.import_file(write(tmp_path / "a.gguf"), "a")
    files.import_file(write(tmp_path / "b.gguf", fill=b"\1"), "b")
    custom.create("brief", "FROM a\nSYSTEM Be brief.")
    job = done(enqueue.export(["brief", "b", "A"])[0])
    assert job.state == JobState.DONE
    (written,) = importing.folder().iterdir()
    for name in ("a", "b", "brief"):
        versions.remove_name(name)
    assert not [name for name in names_in(disk.folder()) if name.startswith("sha256")]
    written.rename(incoming.folder() / "carried.tar")
    job = done(enqueue.import_file("carried.tar")[0])
    assert (job.state, job.error) == (JobState.DONE, {})
    assert set(ModelName.objects.values_list("name", flat=True)) == {
        "a:latest",
        "b:latest",
        "brief:latest",
    }
    assert custom.configuration("brief").system == "Be brief."
    assert all(model.version.path.exists() for model in ModelName.objects.all())
    # Importing it again changes nothing.
    assert "present" in said(done(enqueue.import_file("carried.tar")[0]))


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
def test_a_bundle_that_differs_from_its_manifest_imports_nothing(content, tmp_path):
    (incoming.folder() / "bad.tar").write_bytes(content)
    job = done(enqueue.import_file("bad.tar")[0])
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
def test_a_bundle_with_invalid_configurations_is_refused(told, tmp_path):
    files.import_file(write(tmp_path / "a.gguf"), "a")
    model = ModelName.objects.get()
    manifest = {"version": 1, "models": [{"name": "b", "digest": model.version_id, **told}]}
    data = json.dumps(manifest).encode()
    info = tarfile.TarInfo("manifest.json")
    info.size = len(data)
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.addfile(info, io.BytesIO(data))
    with pytest.raises(ChatsiteError):
        bundle.read_manifest(tmp_path / "b.tar")


def test_an_upload_in_parts_can_be_resumed(ann, tmp_path, monkeypatch):
    monkeypatch.setattr(incoming, "PIECE_BYTES", 1000)
    content = write(tmp_path / "tiny.gguf").read_bytes()
    id = incoming.begin(str(ann.pk), len(content), "My tiny.gguf")
    with pytest.raises(incoming.UploadRefused):
        enqueue.import_upload(id, "", by=ann)
    arrived = 0
    while arrived < len(content):
        piece = content[arrived : arrived + 1000]
        arrived = incoming.append(id, str(ann.pk), arrived, io.BytesIO(piece))
        # The response was lost: the repeated part is refused with the size received so far.
        with pytest.raises(incoming.UploadRefused) as refused:
            incoming.append(id, str(ann.pk), arrived - len(piece), io.BytesIO(piece))
        assert refused.value.details == {"arrived": arrived}
    job = done(enqueue.import_upload(id, "sent:1", by=ann)[0])
    assert job.state == JobState.DONE
    assert ModelName.objects.get().version.path.read_bytes() == content
    assert names_in(disk.folder()) == {ModelName.objects.get().version.path.name}


def test_an_upload_is_bounded_and_its_owners_alone(ann, monkeypatch):
    monkeypatch.setattr(incoming, "PIECE_BYTES", 10)
    id = incoming.begin(str(ann.pk), 15, "x.gguf")
    with pytest.raises(incoming.UploadRefused):
        incoming.append(id, str(ann.pk), 0, io.BytesIO(b"x" * 11))
    assert incoming.arrived(id, str(ann.pk)) == 0
    assert incoming.append(id, str(ann.pk), 0, io.BytesIO(b"x" * 10)) == 10
    with pytest.raises(incoming.UploadRefused):
        incoming.append(id, str(ann.pk), 10, io.BytesIO(b"x" * 6))
    with pytest.raises(NotFound):
        incoming.arrived(id, "somebody else")
    with pytest.raises(NotFound):
        incoming.arrived(UUID(int=1), str(ann.pk))
    assert incoming.clean(set()) == []
    monkeypatch.setattr(incoming, "ABANDONED_SECONDS", -1)
    assert incoming.clean({str(id)}) == []
    assert len(incoming.clean(set())) == 1


def test_an_upload_that_fills_the_disk_resumes_later(ann, monkeypatch):
    def full(file, block):
        file.write(block[:3])
        raise OSError(errno.ENOSPC, "full")

    # No database accepts the NUL in the name.
    id = incoming.begin(str(ann.pk), len(content := gguf()), "a\0b.gguf")
    incoming.append(id, str(ann.pk), 0, io.BytesIO(content[:8]))
    with monkeypatch.context() as patch:
        patch.setattr(incoming, "write_block", full)
        with pytest.raises(disk.DiskFull):
            incoming.append(id, str(ann.pk), 8, io.BytesIO(content[8:]))
    assert incoming.arrived(id, str(ann.pk)) == 8
    incoming.append(id, str(ann.pk), 8, io.BytesIO(content[8:]))
    job = enqueue.import_upload(id, "", by=ann)[0]
    assert requests.of(job) == requests.ImportUpload(id, "ab.gguf")
    assert done(job).state == JobState.DONE


def test_exporting_a_removed_model_is_reported(tmp_path):
    files.import_file(write(tmp_path / "a.gguf"), "a")
    model = files.import_file(write(tmp_path / "b.gguf", fill=b"\1"), "b")
    job = enqueue.export(["a", "b"])[0]
    model.version.path.unlink()
    ended = done(job)
    assert (ended.state, ended.error["code"]) == (JobState.FAILED, "model_not_found")
    assert "b:latest has been removed" in ended.error["message"]
    job = enqueue.export(["a", "b"])[0]
    versions.remove_name("b")
    assert "b:latest has been removed" in done(job).error["message"]
    assert names_in(importing.folder()) == set()


def test_a_bundle_of_a_missing_model_is_not_begun():
    with pytest.raises(Exception, match="not installed"):
        enqueue.export(["none"])
    assert not Job.objects.exists()


def test_a_bundle_without_a_manifest_is_none(tmp_path):
    with tarfile.open(incoming.folder() / "x.tar", "w") as tar:
        tar.add(write(tmp_path / "a.gguf"), "a.gguf")
    with pytest.raises(bundle.BadBundle):
        enqueue.import_file("x.tar")


def test_a_missing_job_can_not_be_changed():
    with pytest.raises(states.JobMissing):
        states.pause(UUID(int=5))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (
            {
                "general.basename": "SmolLM2",
                "general.finetune": "Instruct",
                "general.size_label": "135M",
                "general.name": "Smollm2 135M 8k Lc100K Mix1",
            },
            "smollm2-instruct:135m-f32",
        ),
        ({"general.name": "Qwen2.5 7B Instruct"}, "qwen2.5-7b-instruct:f32"),
        ({"general.name": "模型"}, "Some-file:latest"),
        ({}, "Some-file:latest"),
    ],
)
def test_page_47_the_name_is_proposed_from_the_files_metadata(values, name):
    path = write(incoming.folder() / "Some file.gguf", values=values)
    assert incoming.suggested_name(path) == name


def test_page_47_an_import_is_hidden_from_users_until_it_was_tested(admin_client):
    write(incoming.folder() / "a.gguf", values={"general.name": "Tiny"})
    page = admin_client.get("/admin/exchange/").content.decode()
    assert re.search(r'<input name="name"[^>]*value="tiny:f32"', page)
    assert re.search(r'<input type="checkbox" name="available" value="1">', page)
    admin_client.post("/admin/exchange/import/", {"file": "a.gguf", "name": "first:1"})
    hidden = done(Job.objects.get(target="first:1"))
    assert hidden.state == JobState.DONE
    assert not ModelName.objects.get(name="first:1").enabled
    assert "installed_hidden" in [line.code for line in hidden.lines.all()]
    values = {"file": "a.gguf", "name": "second:1", "available": "1"}
    admin_client.post("/admin/exchange/import/", values)
    done(Job.objects.get(target="second:1"))
    assert ModelName.objects.get(name="second:1").enabled
    # A model that users have stays available when its file is imported again.
    admin_client.post("/admin/exchange/import/", {"file": "a.gguf", "name": "second:1"})
    done(Job.objects.get(target="second:1", state=JobState.QUEUED))
    assert ModelName.objects.get(name="second:1").enabled
