"""Untrusted JSON: decoded with bounded work, or refused with a reason."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

Value = TypeVar("Value")

# Nesting of lists and objects. Readers of decoded values may recurse.
DEPTH_MAX: Final = 100
# Commas: a bound on the number of values, each of which takes far more memory than its text.
# Ordinary text of the largest body has fewer.
VALUES_MAX: Final = 2_000_000
_BOM: Final = b"\xef\xbb\xbf"


class BadJson(ValueError):
    """Refused JSON; ``args[0]`` is the reason, msgspec's own if it refused the input."""


def decode(data: bytes | str, decoder: msgspec.json.Decoder[Value]) -> Value:
    """Decode ``data``, which may begin with a byte order mark. Raises `BadJson`."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    raw = raw.removeprefix(_BOM)
    check_size(raw)
    try:
        value = decoder.decode(raw)
    except RecursionError:
        raise _too_deep() from None
    # Besides msgspec's own: invalid UTF-8, and numbers of more digits than Python converts.
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise BadJson(str(error)) from error
    if raw.count(b"[") + raw.count(b"{") > DEPTH_MAX and _is_deep(value):
        raise _too_deep()
    return value


def check_size(data: bytes) -> None:
    """Raise `BadJson` for a body whose decoding would take too much memory."""
    if data.count(b",") > VALUES_MAX:
        raise BadJson(f"the body has more than {VALUES_MAX} values")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        found = list(value.values())
    elif isinstance(value, list | tuple):
        found = list(value)
    elif isinstance(value, msgspec.Struct):
        found = [getattr(value, name) for name in value.__struct_fields__]
    else:
        return []
    return [one for one in found if isinstance(one, dict | list | tuple | msgspec.Struct)]


def _too_deep() -> BadJson:
    return BadJson(f"the body is nested more than {DEPTH_MAX} levels deep")
