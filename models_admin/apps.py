from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ModelsAdminConfig(AppConfig):
    """The last of the applications, so that all models are there to be registered."""

    name = "models_admin"
    verbose_name = _("Models")

    def ready(self) -> None:
        from models_admin import admin  # noqa: F401  (registers the pages)
