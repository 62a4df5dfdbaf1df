"""The kinds of audit events: `domain.verb` and a label for the administration.

A kind that was recorded once is kept here, so that old events have a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

KINDS: Final[Mapping[str, str | Promise]] = {
    # Sign-in.
    "auth.login": _("Signed in"),
    "auth.login_failed": _("Sign-in failed"),
    "auth.throttled": _("Sign-in throttled"),
    "auth.logout": _("Signed out"),
    "auth.password_changed": _("Password changed"),
    "auth.password_link_created": _("Link for a new password created"),
    "auth.password_link_requested": _("Password reset requested"),
    "session.ended": _("Sessions ended"),
    "mfa.added": _("Second factor added"),
    "mfa.removed": _("Second factor removed"),
    "mfa.reset": _("Second factors reset"),
    "mfa.codes_generated": _("Recovery codes generated"),
    "mfa.recovery_code_used": _("Recovery code used"),
    "invitation.created": _("Invitation created"),
    "invitation.accepted": _("Invitation accepted"),
    "invitation.revoked": _("Invitation revoked"),
    "signup.requested": _("Sign-up requested"),
    "signup.approved": _("Sign-up approved"),
    "signup.refused": _("Sign-up refused"),
    "user.email_confirmed": _("Email address confirmed"),
    "setup.completed": _("First administrator created"),
    # API keys and requests.
    "key.created": _("API key created"),
    "key.revoked": _("API key revoked"),
    "key.new_address": _("API key used from a new address"),
    "api.refused": _("API request refused"),
    "api.request": _("API request"),
    "api.summary": _("API use of a key on one day"),
    # Users, groups and roles.
    "user.created": _("User created"),
    "user.changed": _("User changed"),
    "user.role_changed": _("Role of a user changed"),
    "user.groups_changed": _("Groups of a user changed"),
    "user.deactivated": _("User deactivated"),
    "user.activated": _("User activated"),
    "user.deleted": _("User deleted"),
    "group.created": _("Group created"),
    "group.changed": _("Group changed"),
    "group.deleted": _("Group deleted"),
    "group.members_added": _("Users added to a group"),
    "group.members_removed": _("Users removed from a group"),
    # Directory.
    "user.provisioned": _("Account created from the directory"),
    "user.linked": _("Account connected to the directory"),
    "user.disabled": _("User disabled by the directory"),
    "user.enabled": _("User enabled by the directory"),
    "group.synced": _("Groups of a user changed by the directory"),
    "directory.synced": _("Directory checked"),
    "scim.user_created": _("User created by SCIM"),
    "scim.user_changed": _("User changed by SCIM"),
    "scim.user_deleted": _("User removed by SCIM"),
    "scim.group_created": _("Group created by SCIM"),
    "scim.group_changed": _("Group changed by SCIM"),
    "scim.group_deleted": _("Group deleted by SCIM"),
    "scim.refused": _("SCIM request refused"),
    # Policy and quotas.
    "policy.changed": _("Policy changed"),
    # Settings.
    "settings.changed": _("Setting changed"),
    "settings.logo_changed": _("Logo changed"),
    "settings.maintenance_on": _("Maintenance mode turned on"),
    "settings.maintenance_off": _("Maintenance mode turned off"),
    "terms.accepted": _("Terms of use accepted"),
    # Retention and privacy.
    "retention.hold_placed": _("Legal hold placed"),
    "retention.hold_lifted": _("Legal hold lifted"),
    "retention.period_changed": _("Retention period of a group changed"),
    "retention.deletion_requested": _("Deletion of data requested"),
    "retention.deleted": _("Data deleted"),
    "retention.export_requested": _("Export of own data requested"),
    "retention.export_downloaded": _("Export of own data downloaded"),
    "conversation.read": _("Conversation read by an administrator"),
    # Usage and feedback.
    "feedback.shared": _("Conversation shared with administrators"),
    "feedback.withdrawn": _("Shared conversation withdrawn"),
    "feedback.read": _("Shared conversation read by an administrator"),
    "usage.exported": _("Usage report exported"),
    # Collections of documents.
    "collection.created": _("Collection created"),
    "collection.shared": _("Collection shared"),
    "collection.deleted": _("Collection deleted"),
    "document.added": _("Document added to a collection"),
    "document.deleted": _("Document deleted"),
    # Conversations.
    "conversation.deleted": _("Conversation deleted"),
    "conversation.restored": _("Conversation restored"),
    "conversation.exported": _("Conversations exported"),
    "conversation.imported": _("Conversations imported"),
    "share.created": _("Conversation shared"),
    "share.revoked": _("Share revoked"),
    "share.opened": _("Share opened"),
    "answer.stopped": _("Answer stopped by an administrator"),
    "assistant.created": _("Assistant created"),
    "assistant.changed": _("Assistant changed"),
    "assistant.deleted": _("Assistant deleted"),
    "assistant.restored": _("Assistant restored"),
    # Models.
    "model.pulled": _("Model download started"),
    "model.imported": _("Model imported"),
    "model.exported": _("Model export started"),
    "model.quantized": _("Quantization started"),
    "model.created": _("Custom model created"),
    "model.copied": _("Model copied"),
    "model.deleted": _("Model deleted"),
    "model.changed": _("Model settings changed"),
    "model.default": _("Default model changed"),
    "model.shown": _("Model made available"),
    "model.hidden": _("Model hidden"),
    "model.fetched": _("Model file fetched from another host"),
    "model.loaded": _("Model loaded"),
    "model.unloaded": _("Model unloaded"),
    "model.quarantined": _("Model quarantined"),
    "model.released": _("Model released from quarantine"),
    "model.rolled_back": _("Model rolled back"),
    "model.previous_deleted": _("Previous version deleted"),
    # Remote engines.
    "engine.added": _("Engine added"),
    "engine.changed": _("Engine changed"),
    "engine.removed": _("Engine removed"),
    "engine.lost": _("Engine stopped responding"),
    "engine.recovered": _("Engine responds again"),
    # Jobs.
    "job.paused": _("Job paused"),
    "job.resumed": _("Job resumed"),
    "job.retried": _("Job retried"),
    "job.cancelled": _("Job cancelled"),
    "job.removed": _("Job removed"),
    "job.completed": _("Job completed"),
    "job.failed": _("Job failed"),
    # The server and its records.
    "server.started": _("Server started"),
    "server.stopped": _("Server stopped"),
    "backup.created": _("Backup created"),
    "backup.restored": _("Backup restored"),
    "database.moved": _("Database moved"),
    "audit.exported": _("Audit log exported"),
    "audit.verified": _("Audit log verified"),
    "audit.pruned": _("Old audit events deleted"),
    "audit.lost": _("Audit events lost"),
    "audit.seal_mismatch": _("Seal of the audit log does not match"),
}


# Labels of the domains, for the filter. A domain without one is shown by its name.
DOMAINS: Final[Mapping[str, str | Promise]] = {
    "auth": _("Sign-in"),
    "mfa": _("Second factors"),
    "session": _("Sessions"),
    "setup": _("Set-up"),
    "key": _("API keys"),
    "api": _("API requests"),
    "user": _("Users"),
    "group": _("Groups"),
    "invitation": _("Invitations"),
    "signup": _("Sign-ups"),
    "directory": _("Directory"),
    "scim": _("SCIM"),
    "policy": _("Policy"),
    "settings": _("Settings"),
    "terms": _("Terms of use"),
    "retention": _("Retention"),
    "usage": _("Usage"),
    "feedback": _("Feedback"),
    "conversation": _("Conversations"),
    "share": _("Shares"),
    "answer": _("Answers"),
    "collection": _("Collections"),
    "document": _("Documents"),
    "assistant": _("Assistants"),
    "model": _("Models"),
    "engine": _("Remote engines"),
    "job": _("Jobs"),
    "server": _("Server"),
    "backup": _("Backups"),
    "database": _("Database"),
    "audit": _("Audit log"),
}


def label(kind: str) -> str:
    """Return the translated label; the kind itself if it is unknown."""
    return str(KINDS.get(kind, kind))


def domain_label(domain: str) -> str:
    return str(DOMAINS.get(domain, domain))


def by_domain() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return name, label and kinds (name and label) of each domain, in the order of `DOMAINS`."""
    found: dict[str, list[tuple[str, str]]] = {domain: [] for domain in DOMAINS}
    for kind in KINDS:
        found.setdefault(kind.partition(".")[0], []).append((kind, label(kind)))
    return [(domain, domain_label(domain), listed) for domain, listed in found.items() if listed]
