from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class UsageConfig(AppConfig):
    name = "chatsite.usage"
    verbose_name = _("Usage")

    def ready(self) -> None:
        from chatsite.usage import signals  # noqa: F401  (connects the receivers)
