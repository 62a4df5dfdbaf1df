"""`manage.py doctor`: what this machine and installation are like, a line for each thing."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import platform
import shutil
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil
from django.conf import settings
from django.core import checks
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.template.defaultfilters import filesizeformat
from redis import Redis
from redis.exceptions import RedisError

from chatsite.engine import devices, tuning_store
from chatsite.engine.threads import default_threads
from chatsite.inference.budget import Budget
from models_admin import dashboard, placing
from models_admin.models import ModelVersion

_PACKAGES = ("django", "daphne", "channels", "celery", "redis", "llama-cpp-python")
# What llama.cpp has faster code for, fastest last, as /proc/cpuinfo calls it.
_CPU_FEATURES = [
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
]
_LEAST_REDIS = (7, 0)
# A connection that is refused by nobody, but not answered either, must not stop the doctor.
_PATIENCE = 3.0


@dataclass(frozen=True)
class Finding:
    """``advice`` says what to do; an OK has none."""

    level: Literal["OK", "WARN", "FAIL"]
    what: str
    advice: str = ""


class Command(BaseCommand):
    help = "Says what is in order and what is not. Exits with 1 when something does not work."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: object, **options: Any) -> None:
        failed = False
        found = []
        for finding in findings():
            failed |= finding.level == "FAIL"
            if options["json"]:
                found.append(finding.__dict__)
                continue
            self.stdout.write(f"{finding.level:4}  {finding.what}")
            if finding.advice:
                self.stdout.write(f"      {finding.advice}")
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2))
        if failed:
            raise SystemExit(1)


def findings() -> Iterator[Finding]:
    yield from _versions()
    yield from _machine()
    yield from _devices()
    yield from _configuration()
    database = list(_database())
    yield from database
    yield from _redis()
    if all(finding.level != "FAIL" for finding in database):
        yield from _models()
    yield from _tuning()


def _versions() -> Iterator[Finding]:
    parts = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            parts.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("FAIL", f"{package} is not installed.", "make setup")
    yield Finding("OK", ", ".join(parts))


def _machine() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    cores = f"{psutil.cpu_count(logical=False) or '?'} cores, {psutil.cpu_count()} logical"
    yield Finding("OK", f"{platform.machine()} {platform.system()}: {cores}")
    features = _features()
    if features:
        yield Finding("OK", f"The processor has {' '.join(features)}")
    else:
        yield Finding(
            "WARN",
            "Nothing is known about the processor's vector units.",
            "Models run, but it can't be said here how fast.",
        )
    chosen = f"{settings.ENV.threads} (CHATSITE_THREADS)" if settings.ENV.threads else "automatic"
    yield Finding("OK", f"Threads per model: {chosen}; fitting here: {default_threads()}")
    budget, _left = Budget(settings.ENV.memory_mb << 20).room()
    chosen = "CHATSITE_MEMORY_MB" if settings.ENV.memory_mb else "automatic"
    yield Finding("OK", f"Models may take {filesizeformat(budget)} of memory together: {chosen}")
    text = f"{filesizeformat(memory.available)} of {filesizeformat(memory.total)} memory are free"
    if memory.available < 1 << 30:
        yield Finding("WARN", text, "Even small models want 1 GB. End something else.")
    else:
        yield Finding("OK", text)


def _devices() -> Iterator[Finding]:
    env = settings.ENV
    if env.backend != "llama":
        return
    found = asyncio.run(devices.find())
    built_for = ", ".join(devices.built_for())
    if found.problem:
        yield Finding(
            "WARN" if built_for else "FAIL",
            f"llama.cpp does not say what it can compute on: {found.problem}",
            "Models are computed by the processor alone." if built_for else "make setup",
        )
        return
    yield Finding("OK", f"llama.cpp is built for: {found.system}")
    for device in found.devices:
        own = "of the machine's own memory" if device.shared else "of its own memory"
        yield Finding(
            "OK",
            f"{device.name}: {device.description}, {filesizeformat(device.free)} of "
            f"{filesizeformat(device.total)} {own} are free",
        )
    if built_for and not found.devices:
        yield Finding(
            "WARN",
            f"llama.cpp is built for {built_for}, but finds no such device.",
            "Is its driver installed, and may this user open its files in /dev?",
        )
    names = {device.name.lower() for device in found.devices}
    if missing := [name for name in env.gpu_devices if name.lower() not in names]:
        yield Finding(
            "WARN",
            f"CHATSITE_GPU_DEVICES names what is not there: {', '.join(missing)}",
            f"There are: {', '.join(device.name for device in found.devices) or 'none'}",
        )
    if found.devices and env.gpu_layers == 0:
        yield Finding("WARN", "No layers go to devices.", "CHATSITE_GPU_LAYERS=auto")


def _features() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = {
        flag
        for line in lines
        if line.lower().startswith(("flags", "features"))
        for flag in line.partition(":")[2].split()
    }
    return [feature for feature in _CPU_FEATURES if feature in flags]


def _configuration() -> Iterator[Finding]:
    folder = Path(settings.DATA_DIR)
    if folder.is_dir():
        free = filesizeformat(shutil.disk_usage(folder).free)
        yield Finding("OK", f"The data folder is {folder}, {free} free")
    else:
        yield Finding("WARN", f"There is no data folder {folder} yet.", "make run makes it.")
    for problem in checks.run_checks():
        if problem.is_silenced():
            continue
        level: Literal["WARN", "FAIL"] = "FAIL" if problem.level >= checks.ERROR else "WARN"
        yield Finding(level, f"{problem.msg} ({problem.id})", problem.hint or "")


def _database() -> Iterator[Finding]:
    name = f"{connection.vendor} {settings.DATABASES['default'].get('NAME', '')}"
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        yield Finding("FAIL", f"The database {name} does not answer: {error}", "See DATABASE_URL.")
        return
    if missing:
        yield Finding(
            "FAIL", f"The database {name} lacks {len(missing)} migrations.", "manage.py migrate"
        )
    else:
        yield Finding("OK", f"The database {name} answers and is up to date")


def _redis() -> Iterator[Finding]:
    own = not settings.ENV.redis_url
    advice = "`manage.py up` runs it: is it running?" if own else "See CHATSITE_REDIS_URL."
    # Not the address: it may hold a password.
    which = "Our own Redis" if own else "Redis"
    try:
        with Redis.from_url(
            settings.REDIS_URL, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
        ) as client:
            about = client.info()
    except RedisError:
        yield Finding("WARN" if own else "FAIL", f"{which} does not answer.", advice)
        return
    version = str(about["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_REDIS:
        yield Finding("FAIL", f"{which} is {version}.", "Version 7.0 or newer is needed.")
    else:
        yield Finding("OK", f"{which} answers: {version}")
    if about.get("maxmemory") and about.get("maxmemory_policy") != "noeviction":
        yield Finding(
            "WARN",
            f"Redis drops keys when it is full ({about['maxmemory_policy']}): answers get lost.",
            "Set maxmemory-policy to noeviction.",
        )
    if alive := dashboard.hosts():
        yield Finding("OK", f"Inference hosts: {', '.join(host.hostname for host in alive)}")
    else:
        yield Finding("WARN", "No inference host is running.", "manage.py inference")


def _models() -> Iterator[Finding]:
    versions = list(ModelVersion.objects.prefetch_related("names"))
    if not versions:
        yield Finding("WARN", "No model is installed.", "manage.py models import PATH --name NAME")
    for version in versions:
        names = ", ".join(name.name for name in version.names.all()) or "without a name"
        what = f"Model {version} ({names})"
        try:
            size = version.path.stat().st_size
        except OSError:
            yield Finding("FAIL", f"{what}: its file is missing.", "Import it again.")
            continue
        if size != version.size:
            yield Finding(
                "FAIL",
                f"{what}: its file has {size} bytes, not {version.size}.",
                "Import it again.",
            )
        elif version.quarantined:
            yield Finding(
                "WARN",
                f"{what} is in quarantine: {version.quarantined}",
                "The administration can lift it.",
            )
        elif unfit := _unfit(version):
            yield Finding(
                "WARN", f"{what}: {unfit}", "models set NAME --slots N, or a smaller one."
            )
        else:
            yield Finding("OK", f"{what}: {filesizeformat(size)}")


def _unfit(version: ModelVersion) -> str:
    """Why it can't be loaded on this machine; empty if it can."""
    name = version.names.first()
    found = placing.fit_of(name) if name else None
    return str(found) if found and found.verdict == "none" else ""


def _tuning() -> Iterator[Finding]:
    path = Path(settings.DATA_DIR) / "tuning.json"
    try:
        json.loads(path.read_text())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        yield Finding("WARN", f"{path} can't be read: {error}", "Remove it; it is measured anew.")
        return
    versions = list(ModelVersion.objects.prefetch_related("names"))
    known = [(version, tuning_store.history(path, version.digest)) for version in versions]
    if not any(entries for _, entries in known):
        yield Finding("OK", "Nothing is tuned yet: that happens when a model is loaded first")
    for version, entries in known:
        names = ", ".join(name.name for name in version.names.all()) or str(version)
        for entry in entries:
            yield Finding("OK", f"Tuned for {names}{_on(entry)}: {_reasons(entry)}")


def _on(entry: tuning_store.Entry) -> str:
    layers = zip(entry.offload.devices, entry.offload.layers, strict=False)
    words = [f"{count} layers on {device}" for device, count in layers]
    return f" with {', '.join(words)}" if words else ""


def _reasons(entry: tuning_store.Entry) -> str:
    tried = [one for one in entry.tried if not one.bulk]
    if entry.tuning is None:
        measured = "; ".join(map(str, tried)) or "nothing"
        return f"not all is measured yet, since somebody waited for an answer. So far: {measured}"
    chosen = msgspec.structs.replace(entry.tuning, ubatch=tuning_store.UBATCH)
    best = next((one for one in tried if one.tuning == chosen), None)
    others = "; ".join(str(one) for one in tried if one is not best)
    sizes = "".join(f"; {one}" for one in entry.tried if one.bulk)
    return (
        f"{best or chosen}. It is the fastest that works; tried beside it: {others}. "
        f"Micro-batch of {entry.tuning.ubatch} tokens: {entry.why_ubatch}{sizes}"
    )
