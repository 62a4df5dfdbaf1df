"""Mail of the site: invitations, password resets, sign-up, notices of security.

Sent by Django over the server of `CHATSITE_SMTP_*`. Pages of strangers send in the background, so
that they neither wait for the mail server nor reveal by their duration whether an account exists.
"""

from __future__ import annotations

import logging
import queue
import smtplib
import threading
import time
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.template.loader import render_to_string

log = logging.getLogger(__name__)

_QUEUED_MAX: Final = 500
# Seconds before each further attempt.
_RETRIES: Final = (5.0, 30.0, 120.0)

Failures: Final = (OSError, smtplib.SMTPException)


@dataclass(frozen=True)
class Mail:
    to: str
    subject: str
    body: str


def configured() -> bool:
    return bool(settings.ENV.smtp_host)


def written(to: str, template: str, **context: object) -> Mail:
    """Render ``templates/accounts/mail/<template>.txt`` in the active language.

    Its first line is the subject.
    """
    text = render_to_string(f"accounts/mail/{template}.txt", context)
    subject, _separator, body = text.strip().partition("\n")
    return Mail(to, subject.strip(), body.strip() + "\n")


def send(mail: Mail) -> None:
    """Send at once. Raises one of `Failures`."""
    EmailMessage(mail.subject, mail.body, settings.DEFAULT_FROM_EMAIL, [mail.to]).send()


def send_later(mail: Mail) -> None:
    """Send in the background, with retries. A mail that fails is logged without its text."""
    _outbox.put(mail)


def wait(seconds: float = 15.0) -> bool:
    """Wait until the mails of `send_later` are sent; return whether they are.

    For commands: the thread that sends ends with the process.
    """
    return _outbox.wait(seconds)


def problem() -> str:
    """Connect and sign in to the mail server; return what fails, or an empty text."""
    connection = get_connection()
    try:
        connection.open()
    except Failures as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return ""


class _Outbox:
    """A bounded queue, and a daemon thread that exists while there is something to send."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Mail] = queue.Queue(_QUEUED_MAX)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, mail: Mail) -> None:
        try:
            self._queue.put_nowait(mail)
        except queue.Full:
            log.error("Too many mails are queued; one was dropped")
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mail", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                mail = self._queue.get(timeout=1)
            except queue.Empty:
                with self._lock:
                    if self._queue.empty():
                        self._thread = None
                        return
                continue
            try:
                self._send(mail)
            finally:
                self._queue.task_done()

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._queue.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self._queue.unfinished_tasks

    @staticmethod
    def _send(mail: Mail) -> None:
        for pause in (*_RETRIES, None):
            try:
                send(mail)
            except Failures as error:
                if pause is None or isinstance(error, smtplib.SMTPRecipientsRefused):
                    log.error("Mail can't be sent", extra={"error": error})
                    return
                log.warning("Mail can't be sent; retrying", extra={"error": error})
                time.sleep(pause)
            else:
                return


_outbox = _Outbox()
