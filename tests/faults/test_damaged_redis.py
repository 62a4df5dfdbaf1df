"""The whole product after a power failure that damaged Redis's files."""

from __future__ import annotations

import json

from tests.support.stack import Stack


def test_t102_the_site_starts_with_a_damaged_append_only_file(
    fresh_scripted_stack: Stack,
) -> None:
    stack = fresh_scripted_stack
    stack.stop()
    [file] = (stack.data_dir / "redis" / "appendonlydir").glob("*.incr.aof")
    with file.open("ab") as opened:
        opened.write(bytes(4096))
    stack.output.clear()
    stack.start()
    assert "Redis could not load its damaged data." in stack.log
    found = json.loads(stack.manage("doctor", "--json", check=False).stdout)
    assert [one["level"] for one in found if "data was damaged" in one["what"]] == ["WARN"]
