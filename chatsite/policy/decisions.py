"""What a user may do, asked by every door. Synchronous: call it from threads.

Each function takes a user or a user's ID, may read the database at most every two seconds (see
`snapshot`), and else costs microseconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.core.exceptions import PermissionDenied
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError
from chatsite.policy import decide, snapshot
from chatsite.policy.decide import Decision, Limits
from chatsite.policy.features import Feature
from chatsite.site_settings import current


class NotAllowed(ChatsiteError):
    """The organization's rules deny this to the user."""

    code = "not_allowed"
    status = 403
    message: str | Promise = _(
        "Your organization has not enabled this for you. Ask an administrator for access."
    )


class FeatureNotAllowed(NotAllowed):
    def __init__(self, feature: str) -> None:
        self.feature = feature
        super().__init__(_DENIED.get(feature))
        self.details = {"feature": str(feature)}


class ModelNotAllowed(NotAllowed):
    message = _("You do not have access to this model. Ask an administrator, or choose another.")
    detailed = _(
        "You do not have access to the model “%(model)s”. Ask an administrator, or choose another."
    )


class AssistantNotAllowed(NotAllowed):
    message = _("You do not have access to this assistant. Ask an administrator.")


_DENIED: dict[str, Promise] = {
    Feature.API: _("The API is not enabled for you. Ask an administrator for access."),
    Feature.ATTACHMENTS: _("Attachments are not enabled for you. Ask an administrator for access."),
    Feature.SHARING: _(
        "Sharing conversations is not enabled for you. Ask an administrator for access."
    ),
    Feature.COMPARE: _("Comparing models is not enabled for you. Ask an administrator for access."),
    Feature.EXPORT: _(
        "Exporting conversations is not enabled for you. Ask an administrator for access."
    ),
    Feature.IMPORT: _(
        "Importing conversations is not enabled for you. Ask an administrator for access."
    ),
    Feature.LONG_CONTEXTS: _(
        "Long contexts are not enabled for you. Ask an administrator for access."
    ),
    Feature.PRIORITY: _(
        "Priority in the queue is not enabled for you. Ask an administrator for access."
    ),
    Feature.ASSISTANTS: _("Assistants are not enabled for you. Ask an administrator for access."),
    Feature.KNOWLEDGE: _(
        "Collections of documents are not enabled for you. Ask an administrator for access."
    ),
    Feature.TEMPORARY_CHATS: _(
        "Temporary chats are not enabled for you. Ask an administrator for access."
    ),
}


def allows(user: Any, feature: Feature) -> bool:
    """Return whether the user may use the feature."""
    return _decide(user, "feature", feature.value).allowed


def require(user: Any, feature: Feature) -> None:
    """Raise `NotAllowed` unless the user may use the feature."""
    if not allows(user, feature):
        raise FeatureNotAllowed(feature.value)


def require_for_page(user: Any, feature: Feature) -> None:
    """Raise `PermissionDenied` with the reason, for pages that show it."""
    if not allows(user, feature):
        raise PermissionDenied(str(FeatureNotAllowed(feature.value)))


def allows_model(user: Any, name: str) -> bool:
    """Return whether the user may use the model; ``name`` is its full name in the catalogue."""
    return _decide(user, "model", name).allowed


def require_model(user: Any, name: str) -> None:
    """Raise `ModelNotAllowed` unless the user may use the model."""
    if not allows_model(user, name):
        raise ModelNotAllowed(model=name)


def allows_assistant(user: Any, id: object) -> bool:
    """Return whether the user may use assistants at all, and this one."""
    return allows(user, Feature.ASSISTANTS) and _decide(user, "assistant", str(id)).allowed


def require_assistant(user: Any, id: object) -> None:
    """Raise `NotAllowed` unless the user may use the assistant."""
    require(user, Feature.ASSISTANTS)
    if not _decide(user, "assistant", str(id)).allowed:
        raise AssistantNotAllowed


def features(user: Any) -> list[str]:
    """Return the features that the user may use."""
    return [feature.value for feature in Feature if allows(user, feature)]


def limits(user: Any) -> Limits:
    """Return the user's limits, with what denied features take away."""
    return limits_of(snapshot.current(), snapshot.subject(user))


def limits_of(policy: decide.Policy, subject: decide.Subject) -> Limits:
    found, _sources = decide.combine(policy.limits, subject)
    if not policy.decide(subject, "feature", Feature.LONG_CONTEXTS.value).allowed:
        short = current().long_context
        found = replace(found, longest_context=min(found.longest_context or short, short))
    if (found.priority or 0) > 0 and not policy.decide(
        subject, "feature", Feature.PRIORITY.value
    ).allowed:
        found = replace(found, priority=0)
    return found


def _decide(user: Any, kind: decide.Kind, name: str) -> Decision:
    return snapshot.current().decide(snapshot.subject(user), kind, name)
