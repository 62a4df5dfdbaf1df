#!/usr/bin/env python
"""Entry point of all commands; `manage.py help` lists them."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError as error:
        raise SystemExit("Django is not installed here. Run `make setup` first.") from error
    if sys.argv[1:] in (["--version"], ["version"]):
        # Django would print its own version.
        from chatsite.version import product_version

        print(product_version())  # noqa: T201
        return
    from chatsite import logs

    logs.configure_command()
    if sys.argv[1:2] == ["up"]:
        # Its options are settings, which are made when Django loads.
        from chatsite.supervisor import arguments

        arguments.apply(sys.argv[2:])
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
