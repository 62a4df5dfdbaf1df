"""After a purge no byte of the text is left in SQLite's files."""

from __future__ import annotations

from pathlib import Path

from tests.support.stack import Stack

MARKER = "quetzalcoatl"
CODE = f"""
from datetime import timedelta
from django.utils import timezone
from chatsite.accounts.models import User
from chatsite.conversations.models import Conversation
from chatsite.retention import deletions, erase
from chatsite.search import find, index
from tests.support.conversations import write
user = User.objects.create_user("ann")
def indexed(id):
    conversation = Conversation.objects.get(pk=id)
    index.put_title(conversation)
    for message in conversation.messages.all():
        index.put(message, user.pk)
for number in range(40):
    indexed(write("ann", ["{MARKER} " * 200], title="{MARKER}"))
indexed(write("ann", ["kept words"]))
gone = Conversation.objects.exclude(title="Written")
gone.update(deleted_at=timezone.now() - timedelta(hours=2))
print(deletions.purge_deleted())
erase.run(always=True)
print(len(find.search(user, "kept")["results"]))
"""


def test_no_byte_is_left_in_sqlite(tmp_path: Path) -> None:
    """Redis is down here: the purge does not need it."""
    stack = Stack(tmp_path)
    stack.prepare(None)
    ran = stack.manage("shell", "--verbosity", "0", "-c", CODE)
    assert ran.stdout.split()[-2:] == ["40", "1"]
    files = [path for path in tmp_path.iterdir() if path.name.startswith("chatsite.sqlite3")]
    assert files
    assert [path.name for path in files if MARKER.encode() in path.read_bytes()] == []
