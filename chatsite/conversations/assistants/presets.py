"""Which assistants a user may choose, and what each adds to a request."""

from __future__ import annotations

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.conversations import schema
from chatsite.conversations.assistants.models import Assistant
from chatsite.errors import ChatsiteError
from chatsite.policy import decisions
from models_admin.config.custom import Preset

DEFAULT_ICON = "✦"


class AssistantMissing(ChatsiteError):
    """Also raised for assistants of other users, or of a group that the user is not in."""

    code = "assistant_not_found"
    status = 404
    message = _("This assistant no longer exists. Choose another one from the list.")


def find(user: User, id: str | None) -> Assistant | None:
    """Return the assistant; None without an ID. Raises `AssistantMissing` or `NotAllowed`."""
    if id is None:
        return None
    found = Assistant.objects.usable_by(user).filter(pk=id).first()
    if found is None:
        raise AssistantMissing
    decisions.require_assistant(user, found.pk)
    return found


def preset(assistant: Assistant | None) -> Preset | None:
    if assistant is None:
        return None
    administered = assistant.owner_id is None
    return Preset(assistant.system, assistant.parameters, administered)


def offered(user: User, models: set[str]) -> list[schema.Assistant]:
    """Return the assistants whose model is among ``models``, the user's own first."""
    found = [
        one
        for one in Assistant.objects.usable_by(user).distinct()
        if one.model in models and decisions.allows_assistant(user, one.pk)
    ]
    found.sort(key=lambda one: one.owner_id is None)
    return [
        schema.Assistant(
            **msgspec.structs.asdict(face(one)),
            description=one.description,
            model=one.model,
            suggestions=one.suggestions,
            own=one.owner_id is not None,
        )
        for one in found
    ]


def face(assistant: Assistant) -> schema.AssistantFace:
    """Return what is shown of the assistant beside an answer."""
    icon = assistant.icon or DEFAULT_ICON
    return schema.AssistantFace(str(assistant.pk), assistant.name, icon)
