"""Downloads of files, read without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import IO, TypeVar

from django.http import HttpResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header

Response = TypeVar("Response", HttpResponse, StreamingHttpResponse)
_CHUNK = 2**18


def named(response: Response, name: str) -> Response:
    """Have the browser save the response under ``name``."""
    response["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    return response


class FileDownload(StreamingHttpResponse):
    """A ZIP file as a response, which closes it, even if it was not read."""

    def __init__(
        self, file: IO[bytes], name: str, *, on_close: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(_chunks(file), content_type="application/zip")
        self._file, self._on_close = file, on_close
        self["Content-Length"] = str(file.seek(0, os.SEEK_END))
        file.seek(0)
        named(self, name)

    def close(self) -> None:
        super().close()
        self._file.close()
        self._on_close()


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK):
        yield chunk
