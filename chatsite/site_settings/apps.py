from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SiteSettingsConfig(AppConfig):
    name = "chatsite.site_settings"
    label = "site_settings"
    verbose_name = _("Settings")

    def ready(self) -> None:
        from chatsite.site_settings import checks  # noqa: F401  (registers them)
