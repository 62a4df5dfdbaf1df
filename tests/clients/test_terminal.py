"""`manage.py models run`, used in a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys

from tests.support.stack import MODEL, ROOT, Stack, wait_until


def stopped(stack: Stack) -> int:
    sql = "SELECT count(*) FROM chat_generation WHERE state = 'cancelled'"
    return int(str(stack.query(sql)[0][0]))


def test_a_chat_in_the_terminal(api_stack: Stack) -> None:
    api_stack.create_user("operator", admin=True)
    before = stopped(api_stack)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "models", "run", MODEL],
        cwd=ROOT,
        env={**api_stack.env, "TERM": "dumb"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    seen = ""

    def await_text(text: str) -> None:
        """Read up to ``text``, or fail and show what arrived instead."""
        nonlocal seen
        while text not in seen:
            assert select.select([master], [], [], 30)[0], seen
            seen += os.read(master, 4096).decode()
        seen = seen.partition(text)[2]

    def type_in(line: str) -> None:
        await_text(">>> ")
        os.write(master, f"{line}\n".encode())

    try:
        type_in("@tokens 3000 @delay-ms 20")
        await_text("w2 ")
        process.send_signal(signal.SIGINT)
        type_in('"""one')
        await_text("... ")
        os.write(master, b'two"""\n')
        await_text("one\r\ntwo\r\n")
        type_in("/set parameter top_k x")
        await_text("invalid int value [x]")
        type_in("/set parameter num_predict 2")
        type_in("@tokens 5")
        await_text("w1 w2\r\n")
        type_in("/fly")
        await_text("/set system")
        type_in("/bye")
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(master)
    # The end is saved shortly after the client has disconnected.
    wait_until(lambda: stopped(api_stack) > before, "the answer to be cancelled")
