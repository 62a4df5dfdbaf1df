"""`manage.py knowledge`: collections of documents."""

from __future__ import annotations

import hashlib
import json
import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from chatsite.accounts.models import User
from chatsite.answers.runtime import close_runtime, runtime
from chatsite.errors import ChatsiteError
from chatsite.knowledge import collections, schema, sync, upload, vectors_job
from chatsite.knowledge.models import Collection, FolderSync, Share
from chatsite.knowledge.retrieve import Result, Scope, as_json, retrieve


class Command(BaseCommand):
    help = "Creates, fills, lists, shares and searches collections of documents."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="create a collection")
        create.add_argument("name", help="name of the collection")
        create.add_argument("--description", default="", help="what it contains")
        owner = create.add_mutually_exclusive_group(required=True)
        owner.add_argument("--user", help="username of its owner")
        owner.add_argument("--group", help="group that owns it")
        add = actions.add_parser("add", help="add files and folders, and replace changed ones")
        add.add_argument("collection", help="name or ID of the collection")
        add.add_argument("paths", nargs="+", type=Path, help="files and folders")
        add.add_argument("--folder", default="", help="folder of the collection to add them to")
        equal = actions.add_parser("sync", help="make a collection equal to a folder")
        equal.add_argument("collection", help="name or ID of the collection")
        equal.add_argument("path", type=Path, help="the folder")
        equal.add_argument("--dry-run", action="store_true", help="print what would change")
        equal.add_argument("--json", action="store_true", help="print JSON")
        listing = actions.add_parser("list", help="print collections, or the documents of one")
        listing.add_argument("collection", nargs="?", help="name or ID of the collection")
        listing.add_argument("--json", action="store_true", help="print JSON")
        search = actions.add_parser("search", help="print the passages that a user would get")
        search.add_argument("question", help="the question")
        search.add_argument("--user", required=True, help="username whose rights apply")
        search.add_argument("--collection", action="append", help="name or ID; default: all")
        search.add_argument("--limit", type=int, default=8, help="number of passages")
        search.add_argument("--json", action="store_true", help="print JSON")
        share = actions.add_parser("share", help="share a collection, or revoke a share")
        share.add_argument("collection", help="name or ID of the collection")
        target = share.add_mutually_exclusive_group(required=True)
        target.add_argument("--user", help="username")
        target.add_argument("--group", help="name of a group")
        right = share.add_mutually_exclusive_group()
        right.add_argument("--write", action="store_true", help="may change documents")
        right.add_argument("--revoke", action="store_true", help="may no longer read it")
        remove = actions.add_parser("rm", help="delete a collection, or documents of it")
        remove.add_argument("collection", help="name or ID of the collection")
        remove.add_argument("paths", nargs="*", help="paths of documents; default: all of it")

    def handle(self, *args: object, **options: Any) -> None:
        actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "create": self._create,
            "add": self._add,
            "sync": self._sync,
            "list": self._list,
            "search": self._search,
            "share": self._share,
            "rm": self._remove,
        }
        try:
            actions[options["action"]](options)
        except ChatsiteError as error:
            raise CommandError(str(error)) from error

    def _create(self, options: dict[str, Any]) -> None:
        owner: dict[str, Any] = (
            {"owner": _user(options["user"])}
            if options["user"]
            else {"group": _group(options["group"])}
        )
        if Collection.objects.filter(name__iexact=options["name"], **owner).exists():
            raise CommandError(_("There is already a collection with this name."))
        made = Collection.objects.create(
            name=options["name"], description=options["description"], **owner
        )
        self.stdout.write(str(made.pk))

    def _add(self, options: dict[str, Any]) -> None:
        into = _collection(options["collection"])
        failed = 0
        for path, below in _files(options["paths"]):
            name = f"{options['folder'].strip('/')}/{below}".lstrip("/")
            try:
                _document, new = upload.store(into.owner, into, name, path.read_bytes())
            except (ChatsiteError, OSError) as error:
                failed += 1
                self.stderr.write(f"{name}: {error}")
                continue
            self.stdout.write(f"{name}: {_('added') if new else _('unchanged')}")
        if failed:
            raise CommandError(_("Files that could not be added: %s") % failed)

    def _sync(self, options: dict[str, Any]) -> None:
        into = _collection(options["collection"])
        root: Path = options["path"]
        if not root.is_dir():
            raise CommandError(_("%s is not a folder.") % root)
        files = {str(path.relative_to(root)): path for path in _below(root)}
        manifest = [
            schema.ManifestEntry(name, _digest(path), path.stat().st_size)
            for name, path in files.items()
        ]
        plan = sync.plan_for(into, into.owner, manifest)
        if not options["dry_run"]:
            for name in (*plan.added, *plan.modified):
                upload.store(into.owner, into, name, files[name].read_bytes())
            sync.finish_for(FolderSync.objects.get(pk=plan.id))
        if options["json"]:
            figures = {
                "added": plan.added,
                "modified": plan.modified,
                "deleted": plan.deleted,
                "unchanged": plan.unchanged,
            }
            self.stdout.write(json.dumps(figures, indent=2, ensure_ascii=False))
            return
        for mark, names in (("+", plan.added), ("~", plan.modified), ("-", plan.deleted)):
            for name in names:
                self.stdout.write(f"{mark} {name}")
        self.stdout.write(
            _(
                "%(added)s added, %(modified)s replaced, %(deleted)s deleted, "
                "%(unchanged)s unchanged"
            )
            % {
                "added": len(plan.added),
                "modified": len(plan.modified),
                "deleted": len(plan.deleted),
                "unchanged": plan.unchanged,
            }
        )

    def _list(self, options: dict[str, Any]) -> None:
        if options["collection"]:
            found = _collection(options["collection"])
            rows = [upload.serialize(one) for one in found.documents.order_by("path")]
            if options["json"]:
                self._print_json(rows)
                return
            for one in rows:
                reason = one.error.get("message", "") if one.error else "; ".join(one.notes)
                self.stdout.write(f"{one.state:9} {one.size:>12,}  {one.path}  {reason}".rstrip())
            return
        every = Collection.objects.select_related("owner", "group").order_by("name")
        listed = collections.serialize(None, every)
        if options["json"]:
            self._print_json(listed)
            return
        for row in listed:
            self.stdout.write(
                f"{row.id}  {row.name}  {row.owner.kind} {row.owner.name}  "
                f"{row.documents:,} documents, {row.bytes:,} bytes, {row.open} open, "
                f"{row.failed} failed"
            )
        for part in vectors_job.progress():
            self.stdout.write(f"{part.model}: vectors of {part.done:,} of {part.total:,}")

    def _search(self, options: dict[str, Any]) -> None:
        user = _user(options["user"])
        rows = Collection.objects.readable_by(user).distinct()
        ids = (
            tuple(collections.by_name(user, one).pk for one in options["collection"])
            if options["collection"]
            else tuple(rows.values_list("pk", flat=True))
        )

        async def ask() -> Result:
            try:
                return await retrieve(
                    runtime(), user, options["question"], Scope(ids), limit=options["limit"]
                )
            finally:
                await close_runtime()

        found = async_to_sync(ask)()
        if options["json"]:
            self._print_json(as_json(found))
            return
        for one in found.found:
            place = one.passage.document.path if one.passage.document else ""
            page = f", p. {one.passage.page}" if one.passage.page else ""
            text = " ".join(one.passage.text.split())[:200]
            self.stdout.write(f"{one.rank}. {place}{page}\n   {text}")
        if not found.found:
            self.stdout.write(_("Nothing matched."))
        if found.missing:
            self.stderr.write(_("Searched by words only: %s") % found.missing)

    def _share(self, options: dict[str, Any]) -> None:
        found = _collection(options["collection"])
        whom: dict[str, Any] = (
            {"user": _user(options["user"])}
            if options["user"]
            else {"group": _group(options["group"])}
        )
        if options["revoke"]:
            Share.objects.filter(collection=found, **whom).delete()
            return
        Share.objects.update_or_create(
            collection=found, **whom, defaults={"may_write": options["write"]}
        )

    def _remove(self, options: dict[str, Any]) -> None:
        found = _collection(options["collection"])
        if not options["paths"]:
            found.delete()
            return
        for path in options["paths"]:
            rows = found.documents.filter(path=path)
            if not rows.exists():
                raise CommandError(_("%s is not in the collection.") % path)
            rows.delete()

    def _print_json(self, value: object) -> None:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2)
        self.stdout.write(text.decode())


def _user(name: str) -> User:
    found = User.objects.filter(username__iexact=name).first()
    if found is None:
        raise CommandError(_("There is no user %s.") % name)
    return found


def _group(name: str) -> Group:
    found = Group.objects.filter(name__iexact=name).first()
    if found is None:
        raise CommandError(_("There is no group %s.") % name)
    return found


def _collection(text: str) -> Collection:
    """Return a collection by its ID or its name, if only one has it."""
    found = list(Collection.objects.filter(name__iexact=text)[:2])
    if not found:
        found = [one for one in Collection.objects.all() if str(one.pk) == text]
    if not found:
        raise CommandError(_("There is no collection %s.") % text)
    if len(found) > 1:
        raise CommandError(_("Several collections are named %s. Give the ID.") % text)
    return found[0]


def _files(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yield files with their paths in the collection; folders with all files below them."""
    for path in paths:
        if path.is_dir():
            for one in _below(path):
                yield one, str(Path(path.name) / one.relative_to(path))
        else:
            yield path, path.name


def _below(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, without hidden ones, in the order of their paths."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder) / name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
