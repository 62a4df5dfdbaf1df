from django.apps import AppConfig


class AdminSiteConfig(AppConfig):
    """Installed last, so that all models exist when they are registered."""

    name = "models_admin.adminsite"

    def ready(self) -> None:
        from models_admin.adminsite import admin  # noqa: F401  (registers the pages)
