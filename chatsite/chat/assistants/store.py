"""Which assistants somebody may choose, and what each adds to a request."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.chat.assistants.models import Assistant
from chatsite.errors import ChatsiteError
from models_admin.custom import Preset

DEFAULT_ICON = "✦"


class AssistantMissing(ChatsiteError):
    """Also the answer for one of somebody else, or of a group that is not the person's."""

    code = "assistant_not_found"
    status = 404
    message = _("This assistant is no longer there. Choose another one from the list.")


def find(user: User, id: str | None) -> Assistant | None:
    """None without an id. Raises `AssistantMissing`."""
    if id is None:
        return None
    found = Assistant.objects.for_person(user).filter(pk=id).first()
    if found is None:
        raise AssistantMissing
    return found


def preset(assistant: Assistant | None) -> Preset | None:
    if assistant is None:
        return None
    administered = assistant.owner_id is None
    return Preset(assistant.system, assistant.parameters, administered)


def offered(user: User, models: set[str]) -> list[dict[str, Any]]:
    """Those whose model is among ``models``, the person's own first."""
    found = [one for one in Assistant.objects.for_person(user).distinct() if one.model in models]
    found.sort(key=lambda one: one.owner_id is None)
    return [
        {
            **face(one),
            "description": one.description,
            "model": one.model,
            "suggestions": one.suggestions,
            "own": one.owner_id is not None,
        }
        for one in found
    ]


def face(assistant: Assistant) -> dict[str, str]:
    """What is shown of it beside an answer."""
    icon = assistant.icon or DEFAULT_ICON
    return {"id": str(assistant.pk), "name": assistant.name, "icon": icon}
