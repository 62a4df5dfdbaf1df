"""Limits on the size of request bodies, in bytes. Imported before Django's apps are ready."""

from __future__ import annotations

from typing import Final

# Limit for pages, signed in or not. The largest legitimate body is the sign-in form.
FOR_ALL: Final = 64 << 10
# Only a few bodies larger than this are in memory at the same time.
LARGE: Final = 1 << 20
