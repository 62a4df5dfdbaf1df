"""Refusals of SCIM requests."""

from __future__ import annotations


class ScimError(Exception):
    """A refusal with its HTTP status, and the ``scimType`` of RFC 7644, 3.12."""

    def __init__(self, detail: str, *, status: int = 400, kind: str = "") -> None:
        super().__init__(detail)
        self.detail, self.status, self.kind = detail, status, kind


def not_found(kind: str, id: str) -> ScimError:
    return ScimError(f"{kind} {id} does not exist.", status=404)
