"""Pages while Redis accepts connections and never replies, as when its process is suspended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from chatsite.accounts.models import User
from chatsite.answers.runtime import close_runtime
from chatsite.hosts import status
from models_admin.models import ModelName, ModelVersion


@pytest.fixture(autouse=True)
async def silent(settings, tmp_path: Path, monkeypatch) -> AsyncIterator[None]:
    """Start a silent server in place of Redis, with a short timeout for host status."""
    monkeypatch.setattr(status, "PATIENCE_SECONDS", 0.1)
    done = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.transport.abort()

    server = await asyncio.start_unix_server(say_nothing, str(tmp_path / "s"))
    settings.REDIS_URL = f"unix://{tmp_path / 's'}"
    await close_runtime()
    yield
    done.set()
    server.close()
    await close_runtime()


@pytest.fixture
async def client(transactional_db: None) -> AsyncClient:
    version = await ModelVersion.objects.acreate(digest="a" * 64, size=1)
    await ModelName.objects.acreate(name="tiny:latest", version=version)
    user = await sync_to_async(User.objects.create_superuser)("root", password="x")
    client = AsyncClient()
    await client.aforce_login(user)
    return client


@pytest.mark.parametrize("path", ["/", "/chat/models/", "/admin/", "/accounts/keys/"])
async def test_page_9_pages_are_rendered_without_redis(client: AsyncClient, path: str) -> None:
    async with asyncio.timeout(60):
        response = await client.get(path)
    assert response.status_code == 200


async def test_page_9_models_are_offered_as_unloaded(client: AsyncClient) -> None:
    async with asyncio.timeout(60):
        page = (await client.get("/")).content.decode()
    start = page.index(">", page.index('id="boot"')) + 1
    data = json.loads(page[start : page.index("</script>", start)])
    assert [model["state"] for model in data["models"]] == ["unloaded"]
