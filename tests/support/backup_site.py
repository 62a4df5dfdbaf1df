"""A site's database with all kinds of values, and facts about it by the ORM.

    python -m tests.support.backup_site fill     writes rows into the database of the environment
    python -m tests.support.backup_site facts    prints facts as JSON: equal for equal databases
    python -m tests.support.backup_site kill N COMMAND…
                                                 runs a command of `manage.py` with small batches
                                                 and kills it after N of them
    python -m tests.support.backup_site older APP MIGRATION PATH
                                                 unapplies what follows a migration and makes a
                                                 backup as the version with that migration made it
    python -m tests.support.backup_site messages N
                                                 adds N messages in conversations of 100

Run with the environment of a `Stack`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

KEY_FILE = "test-key"
_TURNS = 100
SEARCHED = ("quick fox", "备份", "naïve")


def fill() -> None:
    from django.conf import settings
    from django.contrib.auth.models import Group
    from django.contrib.sessions.backends.db import SessionStore
    from django.utils import timezone

    from chatsite.accounts import keys
    from chatsite.accounts.models import User
    from chatsite.conversations.attachments.models import Attachment, Piece
    from chatsite.conversations.models import Conversation, Folder, Generation, Message
    from chatsite.search import index
    from chatsite.sharing import work
    from chatsite.site_settings.models import Logo, StoredSetting
    from chatsite.usage import rollup

    root = User.objects.create_superuser("root", "root@example.org", "correct horse battery")
    ann = User.objects.create_user("ann", "ann@example.org", "correct horse battery")
    User.objects.create_user("gone").delete()  # its number is not given again
    ann.groups.set([Group.objects.create(name="Ångström 部门")])
    _key, secret = keys.create(ann, name="laptop")
    session = SessionStore()
    session["backup"] = "value"
    session.create()
    Path(settings.DATA_DIR, KEY_FILE).write_text(json.dumps([secret, session.session_key]))

    folder = Folder.objects.create(owner=ann, name="Reports")
    for number in range(30):
        chat = Conversation.objects.create(owner=ann, title=f"备份 {number}", folder=folder)
        index.put_title(chat)
        parent = None
        for role, text in (
            ("user", f"Where is the quick fox {number}? 它在哪里?"),
            ("assistant", "A naïve 'quoted' \\ answer\twith 𝄞 and 备份.\n" * 5),
        ):
            parent = Message.objects.create(
                conversation=chat, parent=parent, role=role, content=text
            )
            index.put(parent, ann.pk)
        chat.head = parent
        chat.save()
        Generation.objects.create(
            owner=ann,
            message=parent,
            model="tiny",
            state="done",
            params={"temperature": 0.5, "seed": 2**53 - 1, "top_p": 1.0, "stop": ["\n", "结束"]},
            timings={"ttft": 1e-7, "total": 1e22, "decode": -0.0},
            completion_tokens=7,
            prompt_tokens=5,
            queued_at=datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC),
            started_at=datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC),
            finished_at=timezone.now(),
        )
    rollup.count_ended(1000)
    work.publish(ann, chat.pk)
    attachment = Attachment.objects.create(owner=ann, name="a.txt", size=3)
    Piece.objects.create(attachment=attachment, number=0, data=b"\x00\xff\\")
    StoredSetting.objects.create(
        name="greeting", value="Hello", changed_at=timezone.now(), changed_by="root"
    )
    Logo.objects.create(digest="0" * 64, media_type="image/png", content=bytes(range(256)))
    _write_answers_and_events(ann, root)


def _write_answers_and_events(ann: Any, root: Any) -> None:
    """Write a model, open answers, a reservation, and events in the chain and in the spool."""
    from django.utils import timezone

    from chatsite.audit import drain
    from chatsite.audit.record import record
    from chatsite.conversations.models import Generation
    from chatsite.policy import quotas, snapshot
    from chatsite.policy.models import Quota
    from chatsite.policy.quotas import Estimate
    from models_admin.models import ModelName, ModelVersion

    version = ModelVersion.objects.create(digest="a" * 64, size=123)
    ModelName.objects.create(name="tiny:latest", version=version, origin="tiny")
    Quota.objects.create(user=ann, unit="tokens", period="month", amount=10**12)
    snapshot.forget()
    running = Generation.objects.create(owner=ann, model="tiny", state="running", attempt=1)
    quotas.reserve(running.pk, ann.pk, Estimate(1000, 10))
    Generation.objects.create(
        owner=root, model="tiny", queued_at=timezone.now() - timedelta(days=1)
    )
    for number in range(250):
        record("model.changed", via="cli", user=ann, number=number, name="模型")
    drain.drain()
    for _number in range(3):
        record("model.changed", via="cli", user=root)  # stays in the spool


def facts() -> dict[str, Any]:
    """Return a count and a digest of each table, what search finds, and whether keys work."""
    from django.apps import apps
    from django.conf import settings
    from django.contrib.sessions.backends.db import SessionStore
    from django.db import transaction

    from chatsite.accounts import keys
    from chatsite.accounts.models import User
    from chatsite.audit import chain
    from chatsite.search.find import search
    from chatsite.text_terms import TermsField

    tables = {}
    for model in apps.get_models(include_auto_created=True):
        names = [
            field.attname
            for field in model._meta.concrete_fields
            if not isinstance(field, TermsField)
        ]
        rows = sorted(map(_shown, model._meta.base_manager.values_list(*names)))
        digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
        tables[model._meta.db_table] = [len(rows), digest]
    secret, session = json.loads(Path(settings.DATA_DIR, KEY_FILE).read_text())
    ann = User.objects.get(username="ann")
    report = chain.verify()
    with transaction.atomic():
        number = User.objects.create(username="next").pk
        transaction.set_rollback(True)
    return {
        "tables": tables,
        "search": {text: len(search(ann, text)["results"]) for text in SEARCHED},
        "key": keys.caller(secret, "chat").user.username,
        "session": SessionStore(session).get("backup"),
        "audit": [report.ok, report.events, report.hash],
        "next user": number,
    }


def _shown(row: tuple[Any, ...]) -> str:
    """Return a row as text. PostgreSQL writes some JSON numbers in another form."""
    written = json.dumps(row, default=_text)
    return json.dumps(json.loads(written, parse_float=_number, parse_int=_number), sort_keys=True)


def _number(text: str) -> float:
    return float(text) + 0.0


def _text(value: Any) -> str:
    return bytes(value).hex() if isinstance(value, (bytes, memoryview)) else str(value)


def kill(batches: int, command: list[str]) -> None:
    from django.core.management import call_command

    from chatsite.backup import databases

    left = batches
    insert = databases.PostgreSQL.insert

    def counted(*values: Any) -> None:
        nonlocal left
        insert(*values)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    databases.BATCH_ROWS = 7  # type: ignore[misc]
    databases.PostgreSQL.insert = counted  # type: ignore[method-assign,assignment]
    call_command(*command)


def older(app: str, migration: str, path: str) -> None:
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    from chatsite.backup import create, load
    from chatsite.backup.tables import tables

    call_command("migrate", app, migration, verbosity=0)
    executor = MigrationExecutor(connection)
    applied = sorted(executor.loader.applied_migrations)
    state = executor.loader.project_state(load.leaves(executor, applied))
    create.require_current_schema = lambda: None
    earlier: Any = create
    earlier.tables = lambda: tables(state.apps)
    call_command("backup", path)


def messages(count: int) -> None:
    from django.db import transaction

    from chatsite.accounts.models import User
    from chatsite.conversations.models import Conversation, Message
    from chatsite.search import index

    ann = User.objects.get(username="ann")
    for first in range(0, count, _TURNS):
        with transaction.atomic():
            chat = Conversation.objects.create(owner=ann, title=f"Long {first}")
            parent = None
            for number in range(first, min(first + _TURNS, count)):
                role = "assistant" if number % 2 else "user"
                text = f"Message {number}: the quick fox 备份 \U0001d11e. " + "word " * 40
                parent = Message.objects.create(
                    conversation=chat, parent=parent, role=role, content=text
                )
                index.put(parent, ann.pk)
            chat.head = parent
            chat.save()


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
    import django

    django.setup()
    if sys.argv[1] == "fill":
        fill()
    elif sys.argv[1] == "kill":
        kill(int(sys.argv[2]), sys.argv[3:])
    elif sys.argv[1] == "older":
        older(*sys.argv[2:])
    elif sys.argv[1] == "messages":
        messages(int(sys.argv[2]))
    else:
        sys.stdout.write(json.dumps(facts()))


if __name__ == "__main__":
    main()
