"""Index the messages and titles that predate the index."""

from django.db import migrations

from chatsite.search import index

_BATCH = 500


def index_all(apps, schema_editor):
    entry = apps.get_model("search", "Entry")
    conversations = apps.get_model("chat", "Conversation").objects
    owners = dict(conversations.values_list("pk", "owner_id"))
    batch = []

    def take(source):
        batch.append(source)
        if len(batch) == _BATCH:
            index.put_many(batch, entry)
            batch.clear()

    for conversation in conversations.exclude(title="").iterator(_BATCH):
        take(index.of_title(conversation))
    messages = apps.get_model("chat", "Message").objects.exclude(content="")
    for message in messages.iterator(_BATCH):
        take(index.of_message(message, owners[message.conversation_id]))
    index.put_many(batch, entry)


class Migration(migrations.Migration):
    dependencies = [("search", "0001_initial")]

    operations = [migrations.RunPython(index_all, migrations.RunPython.noop)]
