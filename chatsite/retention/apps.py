from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RetentionConfig(AppConfig):
    name = "chatsite.retention"
    label = "retention"
    verbose_name = _("Retention and privacy")

    def ready(self) -> None:
        from chatsite.retention import signals  # noqa: F401  (connects them)
