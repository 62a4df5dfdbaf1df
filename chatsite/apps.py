from django.apps import AppConfig


class ChatsiteConfig(AppConfig):
    """The app of management commands and system checks."""

    name = "chatsite"

    def ready(self) -> None:
        from chatsite import checks  # noqa: F401  (registers them)
        from chatsite.answers import leavers  # noqa: F401  (connects its receiver)
