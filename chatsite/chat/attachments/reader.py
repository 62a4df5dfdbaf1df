"""The reading child: ``python -m chatsite.chat.attachments.reader CHARACTERS SECONDS MEGABYTES``.

The file comes on standard input. One line of JSON goes to standard output: ``{"kind", "pages"}``
and then the text, or ``{"error", "why"}``. The process has no network, can write no file, and
ends when it takes more time or memory than it was given.
"""

from __future__ import annotations

import json
import os
import resource
import sys

from chatsite.engine import sandbox


def main() -> int:
    most, seconds, megabytes = map(int, sys.argv[1:4])
    file_in, answer_out = sandbox.take_pipe()
    _limit(seconds, megabytes)
    # Loaded within the limits, before the file: what is missing is our fault, not the file's.
    from chatsite.chat.attachments import formats

    with os.fdopen(file_in, "rb") as file:
        data = file.read()
    try:
        document = formats.read(data, most)
        head: dict[str, object] = {"kind": document.kind, "pages": document.pages}
        answer = json.dumps(head).encode() + b"\n" + document.text.encode("utf-8", "replace")
    except formats.Refused as refusal:
        answer = _refused(refusal.args[0])
    except (MemoryError, RecursionError):
        answer = _refused("document_too_complex")
    except Exception as error:  # noqa: BLE001  (whatever a parser makes of a broken file)
        answer = _refused("document_damaged", type(error).__name__)
    with os.fdopen(answer_out, "wb") as out:
        out.write(answer)
    return 0


def _refused(code: str, why: str = "") -> bytes:
    return json.dumps({"error": code, "why": why}).encode() + b"\n"


def _limit(seconds: int, megabytes: int) -> None:
    sandbox.enter()
    os.nice(10)  # answers that are being written go first
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


if __name__ == "__main__":
    sys.exit(main())
