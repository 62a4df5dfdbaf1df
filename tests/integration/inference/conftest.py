from collections.abc import AsyncIterator

import pytest

from chatsite.stream.publish import Publisher
from tests.support.site import Site


@pytest.fixture
async def site(redis, tmp_path) -> AsyncIterator[Site]:
    site = Site(Publisher(redis, ended_ttl_seconds=60), tmp_path)
    yield site
    await site.placement.stop_all()
