"""The program that `restore` runs: prints a `load.Loaded` as JSON; exits with 1 on errors."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import django
import msgspec

from chatsite.supervisor.launch import set_parent_death_signal


def main() -> None:
    # Without the process that started it, nothing would use what is loaded.
    set_parent_death_signal(signal.SIGKILL)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
    django.setup()
    from chatsite.backup.load import load
    from chatsite.errors import ChatsiteError

    try:
        loaded = load(Path(sys.argv[1]))
    except ChatsiteError as error:
        raise SystemExit(str(error)) from error
    sys.stdout.write(msgspec.json.encode(loaded).decode())


if __name__ == "__main__":
    main()
