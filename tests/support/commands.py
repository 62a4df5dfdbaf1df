"""Management commands without the cost of starting Python and Django for each.

    python -m tests.support.commands

loads Django once and forks for each command that it reads from its standard input. `Commands`
starts it and runs commands in it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Commands that gain nothing from a process of their own. Others may depend on one: `up` is
# stopped by signals, `migrate` and `doctor` look at the installation that they start in.
SERVED = frozenset({"apikey", "createsuperuser", "models", "people", "retention", "shell"})
TIMEOUT_SECONDS = 280


class Commands:
    """A process that runs management commands in the environment ``env``."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands"],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: Sequence[str], stdin: str, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with further variables ``env``, which must not be settings."""
        assert self._process.stdin
        assert self._process.stdout
        with tempfile.TemporaryDirectory(prefix="chatsite-command-") as name:
            folder = Path(name)
            (folder / "0").write_text(stdin)
            request = {"arguments": list(arguments), "env": dict(env), "folder": name}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = self._process.stdout.readline()
            assert code, f"the process of the commands ended before {arguments}"
            out, err = ((folder / stream).read_text() for stream in "12")
        return subprocess.CompletedProcess(["manage.py", *arguments], int(code), out, err)

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()
        self._process.wait()


def _serve() -> int:
    """Fork for each line of the standard input; in the child, return the command's status."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"
    import django

    from chatsite import logs

    logs.configure_command()
    django.setup()
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return _run(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return 0


def _run(request: dict[str, object]) -> int:
    from django.core.management import execute_from_command_line

    signal.alarm(TIMEOUT_SECONDS)
    folder = Path(str(request["folder"]))
    for stream, mode in enumerate(("r", "w", "w")):
        with (folder / str(stream)).open(mode) as file:
            os.dup2(file.fileno(), stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  (the old one has read ahead)
    env, arguments = request["env"], request["arguments"]
    assert isinstance(env, dict)
    assert isinstance(arguments, list)
    os.environ.update(env)
    sys.argv = ["manage.py", *arguments]
    try:
        execute_from_command_line(sys.argv)
    except SystemExit as ended:
        if isinstance(ended.code, int | None):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(_serve())
