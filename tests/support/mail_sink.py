"""A real SMTP server that keeps what it receives."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from tests.support.stack import free_port, wait_until


class MailSink:
    """Listens on a port of this machine. ``login`` is the user and password that it demands."""

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.mails: list[EmailMessage] = []
        self.port = free_port()
        options: dict[str, Any] = {}
        if login is not None:
            wanted = tuple(part.encode() for part in login)

            def check(_server: Any, _session: Any, _envelope: Any, _method: str, sent: Any) -> Any:
                right = (sent.login, sent.password) == wanted
                return AuthResult(success=right, handled=False)

            options = {"authenticator": check, "auth_require_tls": False}
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **options)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        message = email.message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append(message)
        return "250 OK"

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    def newest(self, to: str) -> EmailMessage:
        """Return the newest mail to an address; wait for the first."""
        wait_until(lambda: bool(self._to(to)), f"a mail to {to}")
        return self._to(to)[-1]

    def link(self, to: str) -> str:
        """Return the link in the newest mail to an address."""
        found = re.search(r"https?://\S+", self.newest(to).get_content())
        assert found
        return found[0]

    def _to(self, to: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == to]


@contextmanager
def mail_sink(login: tuple[str, str] | None = None) -> Iterator[MailSink]:
    sink = MailSink(login)
    sink.start()
    try:
        yield sink
    finally:
        sink.stop()
