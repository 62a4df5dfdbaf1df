"""The offline bundle: this repository with all that set-up would download or compile.

`make bundle` writes one tar file on a machine that is set up. Unpacked on a machine without
registries it is a repository with a folder `bundle/`, which set-up uses in place of registries,
compiler and Node.js. Packages are the wheels of what is installed here: their contents were checked
against the hashes of the lock files when they were installed.
"""

from __future__ import annotations

import base64
import configparser
import csv
import ctypes
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.setup import system
from scripts.setup.console import Problem, step
from scripts.setup.paths import BUILD, EMBEDDING, PAGE, REQUIREMENTS, ROOT, STAMPS, STARTER
from scripts.setup.stamps import Stamps, digest

FOLDER = ROOT / "bundle"
_MANIFEST = "manifest.json"
_SUMS = "SHA256SUMS"
_PACKAGES = "packages.txt"
_INSTALLER = "installer.txt"
_INSTALLER_NAME = "uv"
# Files in dist-info that describe one installation.
_OF_INSTALLATION = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json"}
_BUILT = ("__pycache__", "node_modules")
# Options of llama.cpp (GGML_…) for x86-64 and the names of their instruction sets in /proc/cpuinfo.
# The first six are on by default in a build that is not for one processor.
_BASE_OPTIONS = {
    "SSE42": "sse4_2",
    "AVX": "avx",
    "AVX2": "avx2",
    "FMA": "fma",
    "F16C": "f16c",
    "BMI2": "bmi2",
}
_OPTIONS = {
    **_BASE_OPTIONS,
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512_vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_TILE": "amx_tile",
    "AMX_INT8": "amx_int8",
    "AMX_BF16": "amx_bf16",
}
_ON = {"on", "1", "true", "yes"}
# Of the system, and Debian's packages of them; a compiler would have brought them.
_LIBRARIES = (
    {"libgomp.so.1": "libgomp1", "libstdc++.so.6": "libstdc++6"} if sys.platform == "linux" else {}
)
_PIECE = 1 << 20
_STAMPS = Stamps(STAMPS)


@dataclass(frozen=True)
class Bundle:
    """An unpacked bundle in ``folder``."""

    folder: Path

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def packages(self) -> Path:
        return self.folder / _PACKAGES

    @property
    def installer(self) -> Path:
        return self.folder / _INSTALLER

    @property
    def page(self) -> Path:
        return self.folder / "page"

    @property
    def starter(self) -> Path:
        return self.folder / STARTER.name

    @property
    def embedding(self) -> Path:
        return self.folder / EMBEDDING.name

    @property
    def redis(self) -> Path:
        return self.folder / "valkey-server"


@cache
def find() -> Bundle | None:
    """Return the bundle of this repository after checking it; None without one.

    Raises `Problem` if it is damaged, of another version, or made for another machine.
    """
    if not (FOLDER / _MANIFEST).exists():
        return None
    # Its content is checked once on each machine: hashing it takes seconds.
    stamp = digest(
        [FOLDER / _SUMS, FOLDER / _MANIFEST, requirements_digest(), system.cpu_features()]
    )
    if not _STAMPS.holds("bundle", stamp):
        step("Checking the offline bundle")
        check(FOLDER)
        _STAMPS.set("bundle", stamp)
    return Bundle(FOLDER)


def check(folder: Path) -> None:
    """Raise `Problem` if the bundle in ``folder`` can't be installed here."""
    advice = f"Unpack the bundle again, or delete {folder} to install from registries."
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        listed = [line.split("  ", 1) for line in _lines(folder / _SUMS)]
        sums = {name: expected for expected, name in listed}
    except (OSError, ValueError) as error:
        raise Problem(f"the offline bundle can't be read ({error}). {advice}") from None
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            raise Problem(f"the offline bundle is damaged: {path} is not what it was. {advice}")
    if manifest["requirements"] != requirements_digest():
        raise Problem(f"the offline bundle belongs to another version of the product. {advice}")
    for what, here in machine().items():
        if manifest["machine"][what] != here:
            raise Problem(
                f"the offline bundle was made for {what} {manifest['machine'][what]}, and this is "
                f"{here}. Make one with `make bundle` on a machine like this one."
            )
    libc = platform.libc_ver()[1]
    if _version(libc) < _version(manifest["libc"]):
        raise Problem(
            f"the offline bundle needs glibc {manifest['libc']} or newer; this is {libc}. Make one "
            "with `make bundle` on a machine like this one."
        )
    for library, package in _LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            raise Problem(f"llama.cpp needs {library}. {system.advice([package])}") from None
    if missing := sorted(set(manifest["features"]) - set(system.cpu_features().split())):
        raise Problem(
            f"this processor lacks {', '.join(missing)}, for which the bundle was compiled. Make "
            "one for the instructions that both have: "
            'make bundle CMAKE_ARGS="-DGGML_NATIVE=off -DGGML_AVX2=on -DGGML_FMA=on"'
        )


def machine() -> dict[str, str]:
    # Of Python the whole version: which packages are needed can depend on it (3.11.3 and redis).
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "Python": platform.python_version(),
    }


def requirements_digest() -> str:
    return digest(sorted(REQUIREMENTS.glob("*.txt")))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def features(cmake_args: str, native: str) -> list[str]:
    """Return the instruction sets that a build with ``cmake_args`` needs.

    ``native`` has those of the processor that it was compiled on.
    """
    given = {
        name.upper(): value.lower() in _ON
        for name, value in re.findall(r"-DGGML_(\w+?)(?::\w+)?=(\w+)", cmake_args)
    }
    if given.get("NATIVE", True):
        return native.split()
    if platform.machine() != "x86_64":
        return []
    chosen = dict.fromkeys(_BASE_OPTIONS, True) | given
    return sorted(name for option, name in _OPTIONS.items() if chosen.get(option))


# Making one.


def make(locks: Iterable[Path], site_packages: Path, redis: Path) -> Path:
    """Write the bundle of what is installed in ``site_packages``; return the tar file.

    ``locks`` name the packages. ``redis`` is a server to carry along.
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    folder = BUILD / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    bundle = Bundle(folder)
    bundle.wheels.mkdir(parents=True)
    step("Packing the installed packages")
    named = {name for lock in locks for name in locked_names(lock.read_text())}
    pins: dict[str, list[str]] = {_PACKAGES: [], _INSTALLER: []}
    for info in sorted(site_packages.glob("*.dist-info")):
        name = normalized(info.name.split("-")[0])
        if name not in {*named, _INSTALLER_NAME}:
            continue
        wheel = pack(info, bundle.wheels)
        pin = f"{name}=={wheel.name.split('-')[1]} --hash=sha256:{sha256(wheel)}"
        if name in named:
            pins[_PACKAGES].append(pin)
        if name == _INSTALLER_NAME:
            pins[_INSTALLER].append(pin)
    for file, lines in pins.items():
        (folder / file).write_text("".join(f"{line}\n" for line in lines))
    shutil.copytree(PAGE / "dist", bundle.page)
    shutil.copy2(STARTER, bundle.starter)
    shutil.copy2(EMBEDDING, bundle.embedding)
    shutil.copy2(redis, bundle.redis)
    manifest = {
        "version": version,
        "requirements": requirements_digest(),
        "machine": machine(),
        "libc": platform.libc_ver()[1],
        "features": features(os.environ.get("CMAKE_ARGS", ""), system.cpu_features()),
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    sums = [f"{sha256(path)}  {path.relative_to(folder)}\n" for path in _files(folder)]
    (folder / _SUMS).write_text("".join(sums))
    top = f"chatsite-{version}"
    target = BUILD / f"{top}-offline-{platform.system().lower()}-{platform.machine()}.tar"
    step(f"Writing {target.relative_to(ROOT)}")
    with tarfile.open(target, "w") as archive:
        for source in sources():
            archive.add(ROOT / source, f"{top}/{source}", filter=_of_nobody)
        for path in _files(folder):
            name = f"{top}/{FOLDER.name}/{path.relative_to(folder)}"
            archive.add(path, name, filter=_of_nobody)
    shutil.rmtree(folder)
    (target.parent / f"{target.name}.sha256").write_text(f"{sha256(target)}  {target.name}\n")
    return target


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def sources() -> list[str]:
    """Return the paths of the repository's files, relative to `ROOT`."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        found = [name for name in listing.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # no git, or an unpacked release
        top = {".venv", "build", "bundle", "var", ".git"}
        found = [
            str(path.relative_to(ROOT))
            for path in _files(ROOT)
            if path.relative_to(ROOT).parts[0] not in top
            and not {*_BUILT} & set(path.parts)
            and not path.is_relative_to(PAGE / "dist")
        ]
    return [name for name in found if (ROOT / name).is_file()]


def locked_names(lock: str) -> set[str]:
    """Return the normalized names of the packages in a lock file's text."""
    return {normalized(name) for name in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==", lock, re.M)}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pack(info: Path, target: Path) -> Path:
    """Write the wheel of the installed package with the dist-info folder ``info``; return it."""
    site = info.parent
    data = f"{info.name.removesuffix('.dist-info')}.data"
    metadata = (info / "WHEEL").read_text()
    tags = [line.split(": ", 1)[1].split("-") for line in metadata.splitlines() if "Tag: " in line]
    tag = "-".join(".".join(sorted(set(parts))) for parts in zip(*tags, strict=True))
    wheel = target / f"{info.name.removesuffix('.dist-info')}-{tag}.whl"
    generated = _generated_scripts(info)
    record: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _recorded(info):
            path = (site / name).resolve()
            if "__pycache__" in path.parts or not path.is_file():
                continue
            if path.parent == info.resolve() and path.name in _OF_INSTALLATION:
                continue
            if name.startswith("../"):
                inside = path.relative_to(site.resolve().parents[2])
                if inside.parts[0] == "bin":
                    if inside.name in generated:
                        continue
                    stored = f"{data}/scripts/{'/'.join(inside.parts[1:])}"
                else:
                    stored = f"{data}/data/{inside.as_posix()}"
            else:
                stored = name
            content = path.read_bytes()
            if stored.startswith(f"{data}/scripts/"):
                content = re.sub(rb"\A#!.*python[\d.]*", b"#!python", content)
            entry = zipfile.ZipInfo(stored)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (path.stat().st_mode & 0xFFFF) << 16
            archive.writestr(entry, content)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record.append((stored, f"sha256={hashed.decode()}", str(len(content))))
        record.append((f"{info.name}/RECORD", "", ""))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(record)
        archive.writestr(f"{info.name}/RECORD", text.getvalue())
    return wheel


def _recorded(info: Path) -> list[str]:
    with (info / "RECORD").open(encoding="utf-8", newline="") as file:
        return [row[0] for row in csv.reader(file) if row]


def _generated_scripts(info: Path) -> set[str]:
    """Return the names of the programs that installers generate from the entry points."""
    path = info / "entry_points.txt"
    if not path.exists():
        return set()
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(path.read_text())
    groups = ("console_scripts", "gui_scripts")
    return {name for group in groups if parser.has_section(group) for name in parser[group]}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def sha256(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            total.update(piece)
    return total.hexdigest()
