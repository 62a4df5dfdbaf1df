"""The reader child: ``python -m chatsite.documents.reader CHARACTERS SECONDS MB [rendered]``.

The file is read from standard input. Standard output gets one line of JSON, ``{"kind", "pages",
"notes", "page_starts", "title"}``, and then the text, or ``{"error", "why"}``. The process has no
network, can't write files, and ends when it exceeds its limits of time or memory.
"""

from __future__ import annotations

import json
import os
import resource
import sys

from chatsite.sandbox import confine


def main() -> int:
    most, seconds, megabytes = map(int, sys.argv[1:4])
    rendered = sys.argv[4:] == ["rendered"]
    file_in, answer_out = confine.take_pipe()
    _limit(seconds, megabytes)
    # Imported before the file is read: a missing module is our fault, not the file's.
    from chatsite.documents import formats

    with os.fdopen(file_in, "rb") as file:
        data = file.read()
    try:
        document = formats.read(data, most, rendered=rendered)
        head: dict[str, object] = {
            "kind": document.kind,
            "pages": document.pages,
            "notes": document.notes,
            "page_starts": document.page_starts,
            "title": document.title,
        }
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
    confine.enter()
    os.nice(10)  # answers have priority
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


if __name__ == "__main__":
    sys.exit(main())
