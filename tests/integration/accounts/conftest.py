import json

import pytest
from django.core.cache import cache

from chatsite.audit import record as audit
from chatsite.site_settings.save import save
from tests.support.installation import migrated
from tests.support.pages import data_dir, unbuilt

__all__ = ["data_dir", "migrated", "unbuilt"]


@pytest.fixture
def redis(redis_url):
    """Provide an empty cache, in which attempts are counted."""
    cache.clear()
    yield
    cache.clear()
    cache.close()


@pytest.fixture
def audited(monkeypatch):
    """Return the audit events of the test, as they are spooled."""

    class Events(list):
        dropped = 0

        def append(self, line):
            super().append(json.loads(line))

        def kinds(self):
            return [event["kind"] for event in self]

        def last(self, kind):
            return [event for event in self if event["kind"] == kind][-1]

    events = Events()
    monkeypatch.setattr(audit, "spool", lambda: events)
    return events


@pytest.fixture
def mailing(settings, monkeypatch):
    """Configure a mail server; mails are sent at once, into `django.core.mail.outbox`."""
    from chatsite.accounts import mail

    values = {"smtp_host": "mail.example.org", "smtp_sender": "Chat <chat@example.org>"}
    settings.ENV = settings.ENV.model_copy(update=values)
    settings.DEFAULT_FROM_EMAIL = values["smtp_sender"]
    monkeypatch.setattr(mail, "send_later", mail.send)


@pytest.fixture
def site(db):
    """Return the function that changes settings of the site."""
    return lambda **changes: save(changes)
