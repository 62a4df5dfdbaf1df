"""`manage.py doctor`: checks of this machine and installation, one line each."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import platform
import shutil
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
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
from django.utils.timesince import timesince
from redis.exceptions import RedisError

from chatsite.accounts import mail
from chatsite.accounts.directory.diagnose import diagnose
from chatsite.backup import age
from chatsite.capacity.budget import Budget
from chatsite.capacity.threads import default_threads
from chatsite.engine.contract import devices
from chatsite.engine.tuning import store
from chatsite.hosts import status
from chatsite.hosts.status import HostStatus
from chatsite.redis_client import connect_blocking
from chatsite.sandbox import confine
from chatsite.sizes import file_size
from chatsite.supervisor import redis_repair
from chatsite.version import product_version
from models_admin import load_preferences
from models_admin.engines.models import Engine
from models_admin.models import ModelVersion

_PACKAGES = ("django", "daphne", "channels", "celery", "redis", "llama-cpp-python")
# Features that llama.cpp has faster code for, fastest last, by their names in /proc/cpuinfo.
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


@dataclass(frozen=True)
class Finding:
    """A result; ``advice`` says what to do and is empty for an OK."""

    level: Literal["OK", "WARN", "FAIL"]
    what: str
    advice: str = ""


class Command(BaseCommand):
    help = "Checks the installation and suggests fixes. Exits with 1 if a check fails."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="write JSON")

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
    yield from _isolation()
    for level, what, advice in diagnose():
        yield Finding(level, what, advice)
    yield from _mail()
    yield from _backups()
    database = list(_database())
    yield from database
    yield from _redis()
    if all(finding.level != "FAIL" for finding in database):
        yield from _models()
        yield from _engines()
        yield from _tuning()


def _versions() -> Iterator[Finding]:
    parts = [f"chatsite {product_version()}", f"Python {platform.python_version()}"]
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
            "The processor's vector instructions could not be detected.",
            "Models run, but their speed can't be predicted.",
        )
    chosen = f"{settings.ENV.threads} (CHATSITE_THREADS)" if settings.ENV.threads else "automatic"
    yield Finding("OK", f"Threads per model: {chosen}; recommended: {default_threads()}")
    budget, _left = Budget(settings.ENV.memory_mb << 20).room()
    chosen = "CHATSITE_MEMORY_MB" if settings.ENV.memory_mb else "automatic"
    yield Finding("OK", f"Memory for all models: {file_size(budget)} ({chosen})")
    text = f"{file_size(memory.available)} of {file_size(memory.total)} memory is free"
    if memory.available < 1 << 30:
        yield Finding("WARN", text, "Even small models need 1 GB. Free some memory.")
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
            f"llama.cpp can't list its devices: {found.problem}",
            "Models run on the CPU only." if built_for else "make setup",
        )
        return
    yield Finding("OK", f"llama.cpp is built for: {found.system}")
    for device in found.devices:
        own = "of the machine's own memory" if device.shared else "of its own memory"
        yield Finding(
            "OK",
            f"{device.name}: {device.description}, {file_size(device.free)} of "
            f"{file_size(device.total)} {own} are free",
        )
    if built_for and not found.devices:
        yield Finding(
            "WARN",
            f"llama.cpp is built for {built_for}, but finds no device of that kind.",
            "Check that its driver is installed and that this user can open its files in /dev.",
        )
    names = {device.name.lower() for device in found.devices}
    if missing := [name for name in env.gpu_devices if name.lower() not in names]:
        yield Finding(
            "WARN",
            f"CHATSITE_GPU_DEVICES names missing devices: {', '.join(missing)}",
            f"Available: {', '.join(device.name for device in found.devices) or 'none'}",
        )
    if found.devices and env.gpu_layers == 0:
        yield Finding("WARN", "No layers are offloaded to devices.", "CHATSITE_GPU_LAYERS=auto")


def _isolation() -> Iterator[Finding]:
    """Check the sandbox of processes that read model files, templates and documents.

    A child enters the sandbox and tries forbidden operations.
    """
    kinds: dict[str, list[str]] = {"Engine, renderer and reader processes": []}
    if devices.built_for():
        kinds["Engine processes with devices"] = ["devices"]
    for what, options in kinds.items():
        try:
            trial = asyncio.run(confine.trial(settings.DATA_DIR, options))
        except confine.NoTrial as error:
            yield Finding("FAIL", f"{what}: the sandbox can't be entered: {error}", "make setup")
            continue
        yield Finding("OK", f"{what}: {trial.protection}")
        if trial.done:
            yield Finding(
                "WARN",
                f"{what} are not prevented from: {', '.join(trial.done)}.",
                "See docs/explanation/security.md for the kernel or permission that is needed.",
            )


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
        free = file_size(shutil.disk_usage(folder).free)
        yield Finding("OK", f"The data folder is {folder}, {free} free")
    else:
        yield Finding(
            "WARN", f"The data folder {folder} does not exist yet.", "make run creates it."
        )
    for problem in checks.run_checks(databases=["default"]):
        if problem.is_silenced():
            continue
        level: Literal["WARN", "FAIL"] = "FAIL" if problem.level >= checks.ERROR else "WARN"
        yield Finding(level, f"{problem.msg} ({problem.id})", problem.hint or "")


def _mail() -> Iterator[Finding]:
    env = settings.ENV
    if not mail.configured():
        yield Finding("OK", "No mail server is configured (CHATSITE_SMTP_HOST)")
        return
    server = f"The mail server {env.smtp_host}:{env.mail_port} ({env.smtp_tls})"
    if problem := mail.problem():
        yield Finding("FAIL", f"{server} can't be used: {problem}", "See CHATSITE_SMTP_*.")
    else:
        yield Finding("OK", f"{server} accepts the connection")


def _backups() -> Iterator[Finding]:
    found = age.standing()
    if found is None:
        yield Finding("OK", "No folder for backups is set (CHATSITE_BACKUP_DIR)")
    elif found.error:
        yield Finding(
            "WARN",
            f"The folder of backups {found.folder} can't be read: {found.error}",
            "Create it, or correct CHATSITE_BACKUP_DIR.",
        )
    elif found.newest is None:
        yield Finding(
            "WARN", f"There is no backup in {found.folder} yet.", "manage.py backup FOLDER"
        )
    else:
        text = f"Last backup: {timesince(found.newest)} ago, in {found.folder}".replace("\xa0", " ")
        advice = "See the log of Celery, or run: manage.py backup FOLDER"
        yield Finding("WARN", text, advice) if found.is_stale else Finding("OK", text)


def _database() -> Iterator[Finding]:
    name = f"{connection.vendor} {settings.DATABASES['default'].get('NAME', '')}"
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        yield Finding(
            "FAIL", f"The database {name} is not responding: {error}", "See DATABASE_URL."
        )
        return
    if missing:
        yield Finding(
            "FAIL",
            f"The database {name} has {len(missing)} unapplied migrations.",
            "manage.py migrate",
        )
    else:
        yield Finding("OK", f"The database {name} responds and is up to date")


def _redis() -> Iterator[Finding]:
    own = not settings.ENV.redis_url
    advice = "Start it with `manage.py up`." if own else "See CHATSITE_REDIS_URL."
    # Not the URL, which may contain a password.
    which = "The built-in Redis" if own else "Redis"
    try:
        with connect_blocking() as client:
            about = client.info()
    except RedisError:
        yield Finding("WARN" if own else "FAIL", f"{which} is not responding.", advice)
        return
    version = str(about["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_REDIS:
        yield Finding("FAIL", f"{which} is {version}.", "Version 7.0 or newer is required.")
    else:
        yield Finding("OK", f"{which} responds: {version}")
    if about.get("maxmemory") and about.get("maxmemory_policy") != "noeviction":
        yield Finding(
            "WARN",
            f"Redis drops keys when it is full ({about['maxmemory_policy']}): answers can be lost.",
            "Set maxmemory-policy to noeviction.",
        )
    for aside in redis_repair.set_aside(Path(settings.DATA_DIR) / "redis"):
        yield Finding(
            "WARN",
            f"The Redis data was damaged and has been moved to {aside}",
            "Open answers were queued again. Check the disk, then remove the folder.",
        )
    if alive := status.ask_from_thread():
        names = [host.hostname + (" (draining)" if host.draining else "") for host in alive]
        yield Finding("OK", f"Inference hosts: {', '.join(names)}")
        yield from _sandboxes(alive)
    else:
        yield Finding("WARN", "No inference host is running.", "manage.py inference")


def _sandboxes(hosts: Iterable[HostStatus]) -> Iterator[Finding]:
    """Check the sandboxes of the running processes, as they report them."""
    for host in hosts:
        for model in host.models:
            for what, protection in (
                ("engine", model.protection),
                ("template renderer", model.renderer_protection),
            ):
                if protection is None:
                    continue
                text = f"{host.hostname}, {what} of {model.name}: {protection}"
                if gaps := protection.gaps:
                    yield Finding(
                        "WARN",
                        f"{text}. Not prevented: {', '.join(gaps)}",
                        "See docs/explanation/security.md.",
                    )
                else:
                    yield Finding("OK", text)


def _models() -> Iterator[Finding]:
    versions = list(ModelVersion.objects.filter(remote={}).prefetch_related("names"))
    if not versions and not ModelVersion.objects.exists():
        yield Finding("WARN", "No model is installed.", "manage.py models import PATH --name NAME")
    for version in versions:
        names = ", ".join(name.name for name in version.names.all()) or "without a name"
        what = f"Model {version} ({names})"
        try:
            size = version.path.stat().st_size
        except OSError:
            yield _without_file(what, version)
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
                "Release it in the administration.",
            )
        elif unfit := _unfit(version):
            yield Finding(
                "WARN",
                f"{what}: {unfit}",
                "Run: manage.py models set NAME --slots N, or choose a smaller model.",
            )
        else:
            yield Finding("OK", f"{what}: {file_size(size)}")


def _engines() -> Iterator[Finding]:
    for engine in Engine.objects.filter(enabled=True):
        what = f"Engine {engine} ({engine.url})"
        if engine.key_unreadable:
            yield Finding(
                "FAIL",
                f"{what}: its key was encrypted with another secret key.",
                f"manage.py engines set {engine} --key-file PATH",
            )
        elif engine.error:
            yield Finding("WARN", f"{what}: {engine.error}", f"manage.py engines check {engine}")
        else:
            yield Finding("OK", what)


def _without_file(what: str, version: ModelVersion) -> Finding:
    """Return what it means that this machine lacks the file of a model."""
    having = [host for host in status.ask_from_thread() or () if version.digest in host.files]
    if not having:
        return Finding("FAIL", f"{what}: its file is missing.", "Import it again.")
    names = ", ".join(host.hostname for host in having)
    if any(host.files_url for host in having):
        return Finding("OK", f"{what}: on {names}; fetched from there when it is needed")
    return Finding(
        "WARN",
        f"{what}: its file is on {names} only, which does not give files to this machine.",
        "Set CHATSITE_FILES_ADDRESS there.",
    )


def _unfit(version: ModelVersion) -> str:
    """Return why the model can't be loaded on this machine; empty if it can."""
    name = version.names.first()
    found = load_preferences.fit_of(name) if name else None
    return str(found) if found and found.verdict == "none" else ""


def _tuning() -> Iterator[Finding]:
    path = Path(settings.DATA_DIR) / "tuning.json"
    try:
        json.loads(path.read_text())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        yield Finding(
            "WARN", f"{path} can't be read: {error}", "Remove it; the measurement will be repeated."
        )
        return
    versions = list(ModelVersion.objects.filter(remote={}).prefetch_related("names"))
    known = [(version, store.history(path, version.digest)) for version in versions]
    if not any(entries for _, entries in known):
        yield Finding("OK", "Nothing is tuned yet; tuning runs while the host is idle")
    for version, entries in known:
        names = ", ".join(name.name for name in version.names.all()) or str(version)
        for entry in entries:
            yield Finding("OK", f"Tuned for {names}{_on(entry)}: {_reasons(entry)}")


def _on(entry: store.Entry) -> str:
    layers = zip(entry.offload.devices, entry.offload.layers, strict=False)
    words = [f"{count} layers on {device}" for device, count in layers]
    return f" with {', '.join(words)}" if words else ""


def _reasons(entry: store.Entry) -> str:
    tried = [one for one in entry.tried if not one.bulk]
    if entry.tuning is None:
        measured = "; ".join(map(str, tried)) or "nothing"
        return f"tuning is not complete: the host has not been idle long enough. So far: {measured}"
    chosen = msgspec.structs.replace(entry.tuning, ubatch=store.UBATCH)
    best = next((one for one in tried if one.tuning == chosen), None)
    others = "; ".join(str(one) for one in tried if one is not best)
    sizes = "".join(f"; {one}" for one in entry.tried if one.bulk)
    return (
        f"{best or chosen}. It is the fastest that works; also tried: {others}. "
        f"Micro-batch of {entry.tuning.ubatch} tokens: {entry.why_ubatch}{sizes}"
    )
