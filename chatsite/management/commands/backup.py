"""`manage.py backup`: write or check a backup."""

from __future__ import annotations

import argparse
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatsite.backup import create
from chatsite.backup.archive import Manifest, Reader
from chatsite.management.reporting import reported
from chatsite.sizes import file_size


class Command(BaseCommand):
    help = (
        "Writes a backup of database, secret key and audit spool into one file while the site "
        "runs, and verifies it. The file contains the secret key: keep it private. Exits with 1 on "
        "errors."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "target",
            type=Path,
            metavar="FILE",
            help="file to write, or a folder, in which the file is named by the time",
        )
        parser.add_argument(
            "--models", action="store_true", help="include model files, which are large"
        )
        parser.add_argument(
            "--keep",
            type=_count,
            metavar="N",
            help="with a folder: keep its newest N backups and delete older ones",
        )
        parser.add_argument("--force", action="store_true", help="replace an existing file")
        parser.add_argument(
            "--check", action="store_true", help="only verify an existing backup and describe it"
        )
        parser.add_argument("--json", action="store_true", help="write JSON")

    def handle(self, *args: object, **options: Any) -> None:
        target: Path = options["target"].absolute()
        as_json: bool = options["json"]
        if options["check"]:
            with reported(), Reader(target) as reader:
                reader.verify()
            self._describe(target, reader.manifest, "is intact", as_json)
            return
        folder = target if target.is_dir() else None
        if options["keep"] and folder is None:
            raise CommandError("--keep needs a folder, not a file.")
        path = folder / create.name_now() if folder else target
        with reported() as line:
            manifest = create.create_recorded(
                path,
                via="cli",
                with_models=options["models"],
                replace=options["force"],
                progress=line.say,
            )
        if folder and options["keep"]:
            create.rotate(folder, options["keep"])
        self._describe(path, manifest, "was written and verified", as_json)

    def _describe(self, path: Path, manifest: Manifest, what: str, as_json: bool) -> None:
        size = path.stat().st_size
        if as_json:
            found = {
                "path": str(path),
                "size": size,
                "version": manifest.version,
                "created_at": manifest.created_at,
                "rows": {stored.table.name: stored.rows for stored in manifest.tables},
                "models": [
                    {"names": one.names, "digest": one.digest, "included": one.included}
                    for one in manifest.models
                ],
            }
            self.stdout.write(json.dumps(found, indent=1))
            return
        self.stdout.write(
            f"{path} {what}: {file_size(size)}, {manifest.rows} rows of {manifest.vendor}, "
            f"version {manifest.version}, {manifest.created_at}"
        )
        for model in manifest.models:
            where = "included" if model.included else "not included"
            self.stdout.write(f"  {', '.join(model.names) or model.digest[:12]}: {where}")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)
