"""`manage.py up --host --port --data-dir`, parsed before the settings are loaded.

Settings are loaded with Django, long before a command's `handle`. So `manage.py` calls `apply`
first, which puts the options into the environment that the settings and all child processes
read.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import MutableMapping, Sequence

from chatsite import env
from chatsite.supervisor import data_dir
from chatsite.supervisor.parts import PARTS

_SETTINGS = ("host", "port", "data_dir")


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="Address to bind; overrides CHATSITE_HOST.")
    parser.add_argument("--port", help="Port to bind; overrides CHATSITE_PORT.")
    parser.add_argument("--data-dir", help="Folder for all data; overrides CHATSITE_DATA_DIR.")
    parser.add_argument(
        "--only",
        metavar="PARTS",
        help=f"Run only these parts, separated by commas: {', '.join(PARTS)}. Default: all.",
    )


def apply(
    arguments: Sequence[str], environ: MutableMapping[str, str] = os.environ
) -> env.Environment | None:
    """Put the options into ``environ`` and prepare the data folder; return None for `--help`.

    Raises `SystemExit` with a message for the operator if a value can't be used.
    """
    if {"-h", "--help"} & set(arguments):
        return None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_to(parser)
    options, _ = parser.parse_known_args(arguments)
    for name in _SETTINGS:
        if (value := getattr(options, name)) is not None:
            environ[f"CHATSITE_{name.upper()}"] = value
    environment = env.load()
    # Children may have another working directory.
    environ["CHATSITE_DATA_DIR"] = str(environment.data_dir)
    data_dir.prepare(environment.data_dir)
    return environment
