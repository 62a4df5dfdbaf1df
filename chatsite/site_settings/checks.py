"""System check of settings that the environment sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks

from chatsite.site_settings.fields import declared
from chatsite.site_settings.values import from_environment


@checks.register
def environment(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    _found, problems = from_environment()
    return [
        checks.Error(
            f"{declared()[name].variable}: {problem}",
            hint=str(declared()[name].setting.help),
            id="site_settings.E001",
        )
        for name, problem in problems.items()
    ]
