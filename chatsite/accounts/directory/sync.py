"""The check of the directory for users who left: `manage.py people sync`, and each night by beat.

LDAP is asked for all users who may sign in. OpenID Connect can't be asked, so its users can be
disabled when they have not signed in for some days. Users of SCIM are disabled by SCIM itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from chatsite.accounts import roles
from chatsite.accounts.directory import leavers
from chatsite.accounts.directory.groups import set_memberships
from chatsite.accounts.directory.person import Person
from chatsite.accounts.models import DirectoryIdentity
from chatsite.audit.record import record

logger = logging.getLogger(__name__)

Source = DirectoryIdentity.Source


@dataclass
class Report:
    """What a check found and did, or would do if ``dry_run``; users are named.

    ``refused`` says why nothing was done; ``kept`` are administrators who would have been the last.
    """

    dry_run: bool = False
    checked: int = 0
    disabled: list[str] = field(default_factory=list)
    enabled: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run(*, force: bool = False, dry_run: bool = False, via: str = "cli") -> Report:
    """Check all configured directories and record the result.

    Raises `DirectoryUnavailable` if the directory does not answer: nothing is changed then.
    """
    env = settings.ENV
    report = Report(dry_run=dry_run)
    if env.ldap_url:
        _check_ldap(report, force=force, via=via)
    if env.oidc_issuer:
        _check_oidc(report, force=force, via=via)
    if env.scim_token:
        report.notes.append("Users of SCIM are disabled by SCIM itself.")
    if not (env.ldap_url or env.oidc_issuer or env.scim_token):
        report.notes.append("No directory is configured: see docs/admin/directory.md.")
    if not dry_run:
        record(
            "directory.synced",
            via=via,
            outcome="denied" if report.refused else "ok",
            checked=report.checked,
            disabled=len(report.disabled),
            enabled=len(report.enabled),
            kept=report.kept,
            forced=force,
            reason="; ".join(report.refused),
        )
    return report


def _check_ldap(report: Report, *, force: bool, via: str) -> None:
    from chatsite.accounts.directory import ldap  # needs the extra

    identities = _identities(Source.LDAP)
    present = ldap.everyone({one.external_id for one in identities})
    now = timezone.now()
    gone = [one for one in identities if one.external_id not in present]
    if not _judge(report, identities, gone, "is not in the directory", force=force, via=via):
        return
    found = [one for one in identities if one.external_id in present]
    if not report.dry_run:
        DirectoryIdentity.objects.filter(pk__in=[one.pk for one in found]).update(seen_at=now)
    for one in found:
        _bring_up_to_date(report, one, present, via=via)


def _bring_up_to_date(
    report: Report, identity: DirectoryIdentity, present: Mapping[str, Person], *, via: str
) -> None:
    """Enable a returner, and take over the groups of an active user."""
    user, person = identity.user, present[identity.external_id]
    if not user.is_active:
        if identity.disabled_at is None:
            return  # an administrator disabled the account
        if report.dry_run or leavers.enable(user, identity, via=via):
            report.enabled.append(user.get_username())
    if not report.dry_run and user.is_active and person.groups is not None:
        set_memberships(user, identity.source, person.groups, settings.ENV.ldap_roles, via=via)


def _check_oidc(report: Report, *, force: bool, via: str) -> None:
    days = settings.ENV.directory_unseen_days
    if not days:
        report.notes.append(
            "OpenID Connect can't be asked for users who left. Set CHATSITE_DIRECTORY_UNSEEN_DAYS "
            "to disable users who have not signed in for some days, or use SCIM."
        )
        return
    since = timezone.now() - timedelta(days=days)
    # LDAP and SCIM know better who left.
    known_elsewhere = DirectoryIdentity.objects.exclude(source=Source.OIDC).values("user")
    identities = [
        one
        for one in _identities(Source.OIDC)
        if one.user_id not in {row["user"] for row in known_elsewhere}
    ]
    unseen = [one for one in identities if _last_seen(one) < since]
    _judge(report, identities, unseen, f"has not signed in for {days} days", force=force, via=via)


def _last_seen(identity: DirectoryIdentity) -> datetime:
    return max(filter(None, (identity.seen_at, identity.user.last_login)))


def _identities(source: str) -> list[DirectoryIdentity]:
    return list(
        DirectoryIdentity.objects.select_related("user")
        .filter(source=source)
        .order_by("user__username")
    )


def _judge(
    report: Report,
    identities: Iterable[DirectoryIdentity],
    gone: Iterable[DirectoryIdentity],
    reason: str,
    *,
    force: bool,
    via: str,
) -> bool:
    """Disable those who are ``gone``; False, with nothing done, if they are too many."""
    active = [one for one in identities if one.user.is_active]
    leaving = [one for one in gone if one.user.is_active]
    report.checked += len(active)
    percent = settings.ENV.directory_sync_max_percent
    most = max(1, len(active) * percent // 100)
    if len(leaving) > most and not force:
        report.refused.append(
            f"{len(leaving)} of {len(active)} users would be disabled, more than "
            f"CHATSITE_DIRECTORY_SYNC_MAX_PERCENT={percent} allows. Check the search base, the "
            "filter and the allowed groups. If it is right: manage.py people sync --force"
        )
        logger.error(
            "The directory check would disable too many users; nothing was changed",
            extra={"users": len(leaving), "of": len(active)},
        )
        return False
    for one in leaving:
        if leavers.is_last_administrator(one.user):
            report.kept.append(one.user.get_username())
            continue
        if not report.dry_run:
            try:
                leavers.disable(one.user, one, reason=reason, via=via)
            except roles.LastAdministrator:
                report.kept.append(one.user.get_username())
                continue
        report.disabled.append(one.user.get_username())
    return True
