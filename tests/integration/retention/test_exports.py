"""Exports of own data: complete, only one's own, resumed after a crash, gone when they expire."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.test import Client
from django.utils import timezone
from redis.asyncio import Redis

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.conversations.assistants.models import Assistant
from chatsite.exchange import writers
from chatsite.retention import deletions, exporting, work
from chatsite.retention.errors import ExportOpen
from chatsite.retention.models import AdminRead, Deletion, Export, WorkState
from tests.integration.retention.test_deletions import whole


@pytest.fixture(autouse=True)
def _redis(redis: Redis) -> None:
    """Start the real Redis."""


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def downloaded(client: Client, export: Export) -> zipfile.ZipFile:
    response: Any = client.get(f"/accounts/data/export/{export.pk}/")
    assert response.status_code == 200

    async def read() -> bytes:
        return b"".join([chunk async for chunk in response.streaming_content])

    data = async_to_sync(read)()
    response.close()
    return zipfile.ZipFile(io.BytesIO(data))


def test_an_export_has_everything_of_its_owner_only(alice: User, bob: User, unbuilt: None) -> None:
    whole(alice, text="zebra")
    whole(bob, text="giraffe")
    Assistant.objects.create(owner=alice, name="Translator", model="m", system="Translate")
    _key, secret = keys.create(alice, name="Script", scopes=["chat"], days=None)
    AdminRead.objects.create(owner=alice, reader="Root", reason="Case 42", messages=2)
    client = signed_in(alice)
    assert client.post("/accounts/data/export/").status_code == 302
    with pytest.raises(ExportOpen):
        exporting.request_export(alice)
    export = Export.objects.get()
    assert b"is being prepared" in client.get("/accounts/data/").content
    exporting.run(export.pk)
    export.refresh_from_db()
    assert (export.state, export.percent) == (WorkState.DONE, 100)
    assert b"Download export" in client.get("/accounts/data/").content
    archive = downloaded(client, export)
    names = archive.namelist()
    whole_text = b"".join(archive.read(name) for name in names).decode()
    assert json.loads(archive.read("profile.json"))["username"] == "alice"
    assert json.loads(archive.read("conversations.json"))["conversations"][0]["messages"]
    assert [name for name in names if name.startswith("markdown/")]
    assert archive.read("attachments/00001 a.txt.txt") == b"zebra"
    assert json.loads(archive.read("assistants.json"))[0]["system"] == "Translate"
    assert json.loads(archive.read("shares.json"))[0]["messages"]
    assert json.loads(archive.read("api-keys.json"))[0]["name"] == "Script"
    assert json.loads(archive.read("administrators-reads.json"))[0]["reason"] == "Case 42"
    assert len(list(csv.reader(io.StringIO(archive.read("usage.csv").decode())))) == 2
    assert json.loads(archive.read("sessions.json")) is not None
    assert "giraffe" not in whole_text
    assert secret not in whole_text
    for other in (signed_in(bob), Client()):
        assert other.get(f"/accounts/data/export/{export.pk}/").status_code == 404


def test_a_killed_export_is_made_again(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(alice)
    export = exporting.request_export(alice)

    class Killed(BaseException):
        pass

    def dies(*args: Any) -> Any:
        path = exporting.path_of(export).with_suffix(".1.part")
        path.write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(writers, "write_conversations", dies)
        with pytest.raises(Killed):
            exporting.run(export.pk)
    exporting.run(export.pk)
    export.refresh_from_db()
    assert export.state == WorkState.RUNNING, "the lease of the dead worker lasts"
    Export.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    assert work.waiting(Export) == [export.pk]
    exporting.run(export.pk)
    export.refresh_from_db()
    assert (export.state, export.attempts) == (WorkState.DONE, 2)
    made = (settings.DATA_DIR / "exports").glob(f"{export.pk}*")
    assert [path.name for path in made] == [f"{export.pk}.zip"]


def test_an_expired_export_is_gone(alice: User) -> None:
    export = exporting.request_export(alice)
    exporting.run(export.pk)
    client = signed_in(alice)
    Export.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(f"/accounts/data/export/{export.pk}/").status_code == 404
    exporting.remove_expired()
    assert not exporting.path_of(export).exists()
    assert not Export.objects.exists()


def test_an_export_goes_with_its_account(alice: User) -> None:
    export = exporting.request_export(alice)
    exporting.run(export.pk)
    deletion = deletions.request_account(alice, by="root")
    deletions.run(deletion.pk)
    assert not exporting.path_of(export).exists()


def test_all_chats_are_deleted_only_after_the_name(alice: User, site: Any, unbuilt: None) -> None:
    whole(alice)
    client = signed_in(alice)
    refused = client.post("/accounts/data/chats/", {"chats-name": "bob"})
    assert refused.status_code == 400
    assert b"Enter alice to confirm." in refused.content
    assert client.post("/accounts/data/chats/", {"chats-name": "alice"}).status_code == 302
    deletion = Deletion.objects.get()
    deletions.run(deletion.pk)
    shown = client.get("/accounts/data/").content.decode()
    assert "Deletion reports" in shown
    assert "Search index entries" in shown
    assert client.post("/accounts/data/account/", {"account-name": "alice"}).status_code == 302
    alice.refresh_from_db()
    assert alice.is_active, "the site does not allow it"
    site(account_deletion="allowed")
    gone = client.post("/accounts/data/account/", {"account-name": "alice"})
    assert gone.headers["Location"] == "/accounts/login/"
    alice.refresh_from_db()
    assert not alice.is_active
