from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PolicyConfig(AppConfig):
    name = "chatsite.policy"
    label = "policy"
    verbose_name = _("Policy")

    def ready(self) -> None:
        from chatsite.policy import signals  # noqa: F401  (connects receivers)
