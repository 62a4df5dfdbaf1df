from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ConversationsConfig(AppConfig):
    """The app of conversations. Its label names the tables, which predate this package."""

    name = "chatsite.conversations"
    label = "chat"
    verbose_name = _("Conversations")
