"""Users, a model and a conversation in the test database."""

from __future__ import annotations

import pytest

from chatsite.accounts.models import User
from models_admin.models import ModelName, ModelVersion

MODEL = "tiny:latest"


@pytest.fixture
def alice(transactional_db: None) -> User:
    return User.objects.create_user("alice", password="x")


@pytest.fixture
def bob(transactional_db: None) -> User:
    return User.objects.create_user("bob", password="x")


@pytest.fixture
def model(transactional_db: None) -> str:
    """Return an offered model; nothing loads it."""
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    ModelName.objects.create(name=MODEL, version=version)
    return MODEL
