"""Users and a model, as in the chat's tests."""

from __future__ import annotations

from typing import Any

import pytest

from chatsite.site_settings import cache
from tests.integration.chat.conftest import alice, bob, model  # noqa: F401
from tests.support.pages import unbuilt  # noqa: F401


@pytest.fixture
def site() -> Any:
    """Return a function that sets site settings for this test."""
    return lambda **values: cache.cache.put(values)
