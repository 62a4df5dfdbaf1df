"""`manage.py up --host --port --data-dir`, read before the settings are.

Settings are made when Django is loaded, long before a command's `handle`. So `manage.py` calls
`apply` first, which turns the options into the environment that the settings, and all
processes started from here, read.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import MutableMapping, Sequence

from chatsite import env
from chatsite.supervisor import data_dir


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="Address to bind; the same as CHATSITE_HOST.")
    parser.add_argument("--port", help="Port to bind; the same as CHATSITE_PORT.")
    parser.add_argument("--data-dir", help="The one place for data; same as CHATSITE_DATA_DIR.")


def apply(
    arguments: Sequence[str], environ: MutableMapping[str, str] = os.environ
) -> env.Environment | None:
    """Puts the options into ``environ`` and prepares the data folder; None for `--help`.

    Raises `SystemExit` with a sentence for the operator when a value can't be used.
    """
    if {"-h", "--help"} & set(arguments):
        return None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_to(parser)
    options, _ = parser.parse_known_args(arguments)
    for name, value in vars(options).items():
        if value is not None:
            environ[f"CHATSITE_{name.upper()}"] = value
    environment = env.load()
    # Children may have another working directory.
    environ["CHATSITE_DATA_DIR"] = str(environment.data_dir)
    data_dir.prepare(environment.data_dir)
    return environment
