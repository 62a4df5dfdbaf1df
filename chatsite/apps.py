from django.apps import AppConfig


class ChatsiteConfig(AppConfig):
    """Home of the management commands and system checks."""

    name = "chatsite"

    def ready(self) -> None:
        from chatsite import checks  # noqa: F401  (registers them)
