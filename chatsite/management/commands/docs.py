"""`manage.py docs`: write the files that are generated from the code."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from chatsite.management import reference


class Command(BaseCommand):
    help = (
        "Writes the files that are generated from the code: reference pages in docs/ and types of "
        "the page's scripts."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        for path, text in reference.pages().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                self.stdout.write(f"Wrote {path.relative_to(reference.ROOT)}")
