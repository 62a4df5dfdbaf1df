"""Model files for the other inference hosts, over HTTP.

`GET /models/sha256-<digest>` with a token that only machines with the site's secret key can make,
for this file and for `TOKEN_SECONDS`. Ranges are supported, so that a transfer resumes and uses
several connections. All connections together get at most `CHATSITE_FILES_MB_PER_SECOND`.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, Final

from django.core import signing

from models_admin.store import disk

log = logging.getLogger(__name__)

TOKEN_SECONDS: Final = 3600
_SALT: Final = "chatsite.model-files"
_PATH: Final = re.compile(r"/models/sha256-([0-9a-f]{64})")
_RANGE: Final = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
_CONNECTIONS_MOST: Final = 16
_STALL_SECONDS: Final = 30.0
_BLOCK_BYTES: Final = 1 << 20


def token_for(digest: str) -> str:
    """Return a token with which any host of this site may read the file ``digest``."""
    return signing.TimestampSigner(salt=_SALT).sign(digest)


def is_token_for(digest: str, token: str) -> bool:
    try:
        return signing.TimestampSigner(salt=_SALT).unsign(token, TOKEN_SECONDS) == digest
    except signing.BadSignature:
        return False


class Pace:
    """Limits the bytes per second of all threads together; 0 for no limit."""

    def __init__(
        self,
        bytes_per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._clock, self._sleep = bytes_per_second, clock, sleep
        self._lock = threading.Lock()
        self._due = 0.0
        self.spent = 0

    def spend(self, count: int) -> None:
        """Wait until ``count`` bytes may be sent."""
        with self._lock:
            self.spent += count
            if not self._rate:
                return
            now = self._clock()
            begin = max(now, self._due)
            self._due = begin + count / self._rate
        if begin > now:
            self._sleep(begin - now)


class FileServer:
    """Serves the store on ``host`` and ``port`` by threads of its own until `close`.

    ``path_of`` returns the file with a digest. ``sent`` counts the bytes sent.
    """

    def __init__(
        self,
        host: str,
        port: int,
        bytes_per_second: float,
        path_of: Callable[[str], Path] = disk.path_of,
    ) -> None:
        self._http = _Server((host, port), _Handler)
        self._http.pace, self._http.path_of = Pace(bytes_per_second), path_of
        self._thread = threading.Thread(
            target=self._http.serve_forever, name="model-files", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def sent(self) -> int:
        return self._http.pace.spent

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    pace: Pace
    path_of: Callable[[str], Path]

    def __init__(self, *args: Any) -> None:
        self.places = threading.Semaphore(_CONNECTIONS_MOST)
        super().__init__(*args)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _STALL_SECONDS

    def do_GET(self) -> None:
        if not self.server.places.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            self._serve()
        finally:
            self.server.places.release()

    def _serve(self) -> None:
        found = _PATH.fullmatch(self.path)
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        digest = found[1]
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not is_token_for(digest, token):
            self._refuse(HTTPStatus.UNAUTHORIZED)
            return
        try:
            file = self.server.path_of(digest).open("rb")
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with file:
            try:
                self._send(file, digest)
            except OSError as error:
                # A client that leaves; its transfer resumes with what has arrived.
                log.info("Transfer of a model file ended early", extra={"error": error})
                self.close_connection = True

    def _send(self, file: BinaryIO, digest: str) -> None:
        size = os.fstat(file.fileno()).st_size
        start, end, status = 0, size, HTTPStatus.OK
        if asked := _RANGE.fullmatch(self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or size - 1) + 1, size)
            status = HTTPStatus.PARTIAL_CONTENT
            if start >= end:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        # Content with this digest never changes.
        self.send_header("ETag", f'"{digest}"')
        if status == HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        while start < end:
            count = min(_BLOCK_BYTES, end - start)
            self.server.pace.spend(count)
            sent = self.connection.sendfile(file, start, count)
            if not sent:
                raise OSError("the file was truncated")
            start += sent

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "5")
        self.end_headers()

    def version_string(self) -> str:
        return "chatsite"

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("Request for a model file", extra={"request": format % args})
