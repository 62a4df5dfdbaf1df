"""Blobs uploaded by digest, and the models created from them."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator

import pytest

from chatsite.errors import ChatsiteError
from models_admin.adminsite.live import snapshot
from models_admin.config import custom
from models_admin.config.modelfile import Modelfile
from models_admin.jobs import cleaning, enqueue
from models_admin.models import JobState, ModelName
from models_admin.store import blobs, disk, versions
from tests.support import tiny_model
from tests.support.gguf import gguf, split_gguf
from tests.support.hub import names_in
from tests.support.jobs import done, said

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir", "redis_url", "sent", "hub"),
]


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def send(content: bytes, digest: str = "", size: int | None = None) -> str:
    pieces: Iterator[bytes] = iter([content[:100], content[100:], b""])

    async def read() -> bytes:
        return next(pieces)

    digest = digest or digest_of(content)
    await blobs.take(digest, size, read)
    return digest


def left() -> list[str]:
    return [name for name in names_in(disk.folder()) if name.endswith(".part") or "sha256" in name]


async def test_content_that_does_not_match_its_digest_is_not_stored():
    with pytest.raises(blobs.BlobRefused):
        await send(gguf(), digest="ab" * 32)
    assert left() == []
    digest = await send(gguf(), size=len(gguf()))
    assert blobs.require(digest).read_bytes() == gguf()


@pytest.mark.parametrize("where", ["before", "write", "flush"])
async def test_a_full_disk_leaves_nothing(monkeypatch, where):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "before":
        monkeypatch.setattr(disk, "RESERVE", 1 << 60)
    elif where == "write":
        monkeypatch.setattr(os, "posix_fallocate", full)
    else:
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(disk.DiskFull):
        await send(gguf(), size=len(gguf()))
    assert left() == []


def put(content: bytes) -> str:
    """Store a blob as `send` would; return its digest."""
    digest = digest_of(content)
    (disk.folder() / "blobs").mkdir(exist_ok=True)
    (disk.folder() / "blobs" / f"sha256-{digest}").write_bytes(content)
    return digest


def test_a_file_becomes_a_model_with_a_configuration():
    digest = put(gguf())
    file = Modelfile("", system="Be brief.", parameters={"temperature": 0.5})
    job, new = enqueue.create("mine", file, {"a.gguf": digest})
    assert new
    assert snapshot.job_row(job, None).source == f"sha256:{digest[:12]}"
    assert enqueue.create("mine", file, {"a.gguf": digest}) == (job, False)
    assert done(job).state == JobState.DONE
    model = ModelName.objects.get()
    assert (model.name, model.version_id, model.origin) == ("mine:latest", digest, "")
    made = custom.of(model)
    assert (made.parent, made.system, made.parameters) == ("", "Be brief.", {"temperature": 0.5})
    # Once more, of an installed model.
    (disk.folder() / "blobs" / f"sha256-{digest}").unlink()
    assert done(enqueue.create("again", file, {"a.gguf": digest})[0]).state == JobState.DONE
    versions.remove_name("mine")
    versions.remove_name("again")
    with pytest.raises(blobs.BlobMissing, match=f"sha256:{digest} was not found"):
        enqueue.create("third", file, {"a.gguf": digest})


PARTS = [
    split_gguf(tensors, part=part, parts=2, first=not part)
    for part, tensors in enumerate(([("a", b"\1" * 64)], [("b", b"\2" * 96)]))
]


def test_parts_become_one_whatever_their_order():
    second, first = put(PARTS[1]), put(PARTS[0])
    job = done(enqueue.create("whole", Modelfile(""), {"b": second, "a": first})[0])
    assert (job.state, job.error) == (JobState.DONE, {})
    assert "merged" in said(job)
    assert ModelName.objects.get().version.path.exists()
    assert not list(disk.folder().glob("*.part"))


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (PARTS[:1], "one part of a split model"),
        ((PARTS[0], gguf()), "not the parts of one model"),
        ((PARTS[0], PARTS[0] + bytes(32)), "given twice"),
        ((gguf()[:100],), "truncated"),
        ((gguf({"general.type": "adapter"}),), "type 'adapter'"),
    ],
)
def test_an_invalid_model_file_is_refused_by_name(contents, reason):
    files = {f"{i}.gguf": put(content) for i, content in enumerate(contents)}
    job = done(enqueue.create("none", Modelfile(""), files)[0])
    assert job.state == JobState.FAILED
    assert reason in job.error["message"]
    assert not ModelName.objects.exists()


def test_other_weights_are_refused_before_a_job_begins():
    digest = put(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(blobs.BlobRefused) as refused:
        enqueue.create("x", Modelfile(""), {"model.safetensors": digest})
    assert "convert_hf_to_gguf.py" in str(refused.value)
    with pytest.raises(ChatsiteError, match="Unknown quantization 'Q1'"):
        enqueue.create("x", Modelfile(""), {"a.gguf": put(gguf())}, "Q1")


@pytest.mark.slow
def test_weights_are_quantized_on_the_way(tmp_path):
    content = tiny_model.write(tmp_path / "tiny.gguf").read_bytes()
    file = Modelfile("", system="Short.")
    job = done(enqueue.create("small", file, {"a.gguf": put(content)}, "q8_0")[0])
    assert (job.state, job.error) == (JobState.DONE, {})
    model = ModelName.objects.get()
    assert model.version.size < len(content)
    assert custom.of(model).system == "Short."
    # The same from an installed model, with its configuration and the new one.
    job = done(enqueue.quantize("small", "q4_0", "smaller", file=Modelfile("small"))[0])
    assert (job.state, job.error) == (JobState.DONE, {})
    made = custom.configuration("smaller")
    assert (made.system, made.parent) == ("Short.", "small:latest")


def test_unused_blobs_are_deleted_after_a_day():
    old, wanted, fresh = (put(gguf(fill=bytes([i]) * 4)) for i in range(3))
    enqueue.create("waits", Modelfile(""), {"a.gguf": wanted})
    for digest in (old, wanted):
        os.utime(disk.folder() / "blobs" / f"sha256-{digest}", (1, 1))
    assert cleaning.clean() == [f"sha256-{old}"]
    assert blobs.find(old) is None
    assert blobs.find(fresh)
