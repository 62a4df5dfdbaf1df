"""The active layers of a process's sandbox, as it reports them."""

from __future__ import annotations

from typing import Final

import msgspec

# Names of layers in a `Protection`.
LANDLOCK: Final = "Landlock"
MOUNTS: Final = "mount namespace"
NETWORK: Final = "network namespace"
SECCOMP: Final = "seccomp"
NO_NEW_PRIVILEGES: Final = "no new privileges"
NO_CAPABILITIES: Final = "no capabilities"
SEPARATE_USER: Final = "separate user"
HIDDEN_MEMORY: Final = "hidden memory"


class Protection(msgspec.Struct, frozen=True):
    """Layers of a sandbox: ``active`` names with details, ``missing`` names with reasons."""

    active: dict[str, str] = {}
    missing: dict[str, str] = {}

    @property
    def gaps(self) -> tuple[str, ...]:
        """What hostile code in the process could still reach."""
        gaps = []
        if not self.active.keys() & {LANDLOCK, MOUNTS}:
            users = "others" if SEPARATE_USER in self.active else "its user"
            gaps.append(f"files that {users} may read")
        # Path-based Unix sockets cross network namespaces.
        if SECCOMP not in self.active and not self.active.keys() >= {NETWORK, MOUNTS}:
            gaps.append("connections")
        if SECCOMP not in self.active:
            gaps.append("other processes")
        return tuple(gaps)

    def __str__(self) -> str:
        named = [f"{name} ({how})" if how else name for name, how in self.active.items()]
        text = f"sandbox: {', '.join(named) or 'none'}"
        if self.missing:
            reasons = [f"{name} ({why})" for name, why in self.missing.items()]
            text += f"; not active: {', '.join(reasons)}"
        return text
