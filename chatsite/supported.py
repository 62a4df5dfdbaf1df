"""Supported versions of libraries whose private names are used, and how to get them.

A library may change a private name in any release: the failure would come later and look like a
bug of ours. Modules that use such names list them in ``PRIVATE_NAMES``, with the reasons;
`tests/unit/test_private_names.py` checks each name and that there are no others.
`requirements/base.in` has the same ranges.
"""

from __future__ import annotations

from importlib import metadata
from typing import Final

from packaging.specifiers import SpecifierSet

RANGES: Final = {
    "asgiref": ">=3.13,<4",
    "daphne": ">=4.2.3,<4.3",
    "django": ">=5.2.8,<5.3",
    "django-allauth": ">=65.21,<66",
    "llama-cpp-python": "==0.3.36",
    # 8.0 gives every client a 5 s socket timeout, which closes idle WebSockets.
    "redis": ">=7.4,<8",
    "twisted": ">=26.10,<27",
}


class Unsupported(SystemExit):
    """Ends a program; the message says what to install."""


def problems(*names: str) -> list[str]:
    """Return a sentence for each library that is missing or has an unsupported version.

    Checks ``names``, or all libraries.
    """
    found = []
    for name in names or RANGES:
        wanted = RANGES[name]
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(f"{name} is not installed: run `make setup`.")
            continue
        if not SpecifierSet(wanted).contains(version, prereleases=True):
            found.append(
                f"{name} {version} is not supported by this version of the site: run `make setup`, "
                f"or install '{name}{wanted}'."
            )
    return found


def require(*names: str) -> None:
    """Raise `Unsupported` unless ``names``, or all libraries, have supported versions."""
    if found := problems(*names):
        raise Unsupported("\n".join(found))
