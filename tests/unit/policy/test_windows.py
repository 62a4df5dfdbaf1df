"""The windows of quotas: they contain their moment and follow each other without a gap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatsite.policy import quotas
from chatsite.policy.decide import Period, Quota
from chatsite.site_settings.fields import SiteSettings

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Havana")


def _in(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "current", lambda: SiteSettings(time_zone=zone))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    hours=st.floats(0, 15 * 365 * 24),
    period=st.sampled_from(get_args(Period)),
    zone=st.sampled_from(ZONES),
)
def test_windows_contain_their_moment_and_have_no_gap(
    hours: float, period: Period, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in(zone, monkeypatch)
    moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    start, end = quotas.window(period, moment)
    assert start <= moment < end
    assert quotas.window(period, end)[0] == end
    assert quotas.window(period, start) == (start, end)
    assert quotas.window(period, end - timedelta(microseconds=1)) == (start, end)


@pytest.mark.parametrize(
    ("period", "end"),
    [
        ("hour", datetime(2026, 3, 28, 23, tzinfo=BERLIN)),
        ("day", datetime(2026, 3, 29, tzinfo=BERLIN)),
        ("month", datetime(2026, 4, 1, tzinfo=BERLIN)),
    ],
)
def test_a_quota_renews_at_the_local_calendar(
    period: Period, end: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in("Europe/Berlin", monkeypatch)
    assert quotas.window(period, datetime(2026, 3, 28, 22, 30, tzinfo=BERLIN))[1] == end


def test_a_day_with_a_change_of_the_clock_has_its_own_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _in("Europe/Berlin", monkeypatch)
    start, end = quotas.window("day", datetime(2026, 3, 29, 12, tzinfo=UTC))
    assert end - start == timedelta(hours=23)


def test_the_tightest_quota_is_the_one_with_the_least_left() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def state(id: int, amount: int, used: int, reserved: int = 0) -> quotas.State:
        return quotas.State(Quota(id, "tokens", "day", amount), used, reserved, noon)

    states = [state(1, 1000, 100), state(2, 500, 100, 350), state(3, 100, 0)]
    found = quotas.tightest(states, "tokens")
    assert found is not None
    assert (found.quota.id, found.left) == (2, 50)
    assert quotas.tightest(states, "requests") is None
