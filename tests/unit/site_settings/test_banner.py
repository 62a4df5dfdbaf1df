"""When the announcement is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chatsite.site_settings.banner import announcement
from chatsite.site_settings.fields import SiteSettings

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("begins", "ends", "shown"),
    [
        (None, None, True),
        (NOW, None, True),
        (NOW + HOUR, None, False),
        (None, NOW, False),
        (None, NOW + HOUR, True),
        (NOW - HOUR, NOW + HOUR, True),
        (NOW - 2 * HOUR, NOW - HOUR, False),
    ],
)
def test_it_is_shown_between_its_dates(
    begins: datetime | None, ends: datetime | None, shown: bool
) -> None:
    values = SiteSettings(banner_text="Hello", banner_from=begins, banner_until=ends)
    assert (announcement(values, NOW) is not None) == shown


def test_a_new_text_is_another_announcement() -> None:
    one, other = (announcement(SiteSettings(banner_text=text), NOW) for text in ("a", "b"))
    assert one is not None
    assert other is not None
    assert one.digest != other.digest
    assert announcement(SiteSettings(), NOW) is None
