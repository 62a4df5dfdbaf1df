"""The features that rules allow or deny."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Feature(models.TextChoices):
    """A feature. The values are stored in rules and shown by `manage.py policy`."""

    API = "api", _("API and API keys")
    ATTACHMENTS = "attachments", _("Attachments")
    SHARING = "sharing", _("Sharing of conversations")
    COMPARE = "compare", _("Comparison of models")
    EXPORT = "export", _("Export of conversations")
    IMPORT = "import", _("Import of conversations")
    LONG_CONTEXTS = "long_contexts", _("Long contexts")
    PRIORITY = "priority", _("Priority in the queue")
    ASSISTANTS = "assistants", _("Assistants")
    KNOWLEDGE = "knowledge", _("Collections of documents")
    TEMPORARY_CHATS = "temporary_chats", _("Temporary chats")
