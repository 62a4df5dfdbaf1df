from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "chatsite.accounts"
    verbose_name = _("Users")

    def ready(self) -> None:
        from chatsite.accounts import signals  # noqa: F401  (connects them)
        from chatsite.accounts.directory import signals as directory_signals  # noqa: F401
