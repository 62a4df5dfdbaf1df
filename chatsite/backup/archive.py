"""The file of a backup: a ZIP archive whose manifest has the size and SHA-256 of each member.

Members are `manifest.json` (the last one), `secret_key`, `settings.json`, `database/TABLE.jsonl`
with one canonical row per line, `audit/NAME.jsonl` with the files of the spool, and
`models/sha256-DIGEST`. Members are read by the names in the manifest only, and never written to
paths that an archive names.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import msgspec

from chatsite.backup.errors import BackupRefused, BadArchive, named
from chatsite.backup.tables import Table

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SECRET_KEY: Final = "secret_key"  # noqa: S105  (a name)
SETTINGS: Final = "settings.json"
_KIND: Final = "chatsite-backup"
_NAME: Final = re.compile(
    r"secret_key|settings\.json|database/[a-z][a-z0-9_]*\.jsonl|audit/[0-9a-f-]+\.jsonl"
    r"|models/sha256-[0-9a-f]{64}"
)
_BLOCK: Final = 1 << 20
_MANIFEST_BYTES: Final = 16 << 20
# Far above the longest message, attachment or piece of an upload.
_LINE_BYTES: Final = 64 << 20
_LEVEL: Final = 3


class Member(msgspec.Struct, frozen=True):
    """``rows`` is the number of lines of a table."""

    name: str
    size: int
    sha256: str
    rows: int | None = None


class Model(msgspec.Struct, frozen=True):
    """An installed model file; ``origin`` is the name or URL from which it can be pulled."""

    digest: str
    size: int
    names: list[str]
    origin: str = ""
    included: bool = False


class StoredTable(msgspec.Struct, frozen=True):
    """A table as its rows were written; ``last_number`` is that of `Database.last_number`."""

    table: Table
    rows: int
    last_number: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """``created_at`` is UTC; ``migrations`` are app and name of those that were applied."""

    kind: str
    format: int
    version: str
    created_at: str
    host: str
    vendor: str
    migrations: list[tuple[str, str]]
    tables: list[StoredTable]
    models: list[Model]
    members: list[Member]

    @property
    def rows(self) -> int:
        return sum(stored.rows for stored in self.tables)


class Writer:
    """Adds members to an open archive."""

    def __init__(self, file: IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(
            file, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=_LEVEL
        )
        self.members: list[Member] = []

    def add(self, name: str, blocks: Iterable[bytes], *, rows: bool = False) -> Member:
        """Add a member of these blocks; with ``rows`` each of them is a row."""
        sha256, size, count = hashlib.sha256(), 0, 0
        info = zipfile.ZipInfo(name)
        info.external_attr = 0o600 << 16
        is_model = name.startswith("models/")
        info.compress_type = zipfile.ZIP_STORED if is_model else zipfile.ZIP_DEFLATED
        with self._archive.open(info, "w", force_zip64=True) as member:
            for block in _joined(blocks) if rows else blocks:
                sha256.update(block)
                member.write(block)
                size += len(block)
                count += block.count(b"\n") if rows else 0
        added = Member(name, size, sha256.hexdigest(), count if rows else None)
        self.members.append(added)
        return added

    def abandon(self) -> None:
        """Forget the archive: its file is incomplete, and closing it would write to it."""
        self._archive.fp = None

    def finish(self, manifest: Manifest) -> None:
        self._archive.writestr(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        self._archive.close()


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join short lines into larger blocks: each block costs a call of the compressor."""
    held, size = [], 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def new_manifest(**fields: object) -> Manifest:
    return Manifest(kind=_KIND, format=FORMAT, **fields)  # type: ignore[arg-type]


@contextmanager
def written(path: Path, *, replace: bool = False) -> Iterator[IO[bytes]]:
    """Yield a file that becomes ``path`` when the block ends without an error.

    Until then it has a temporary name in the same folder, and a lock: one without a lock was left
    by a killed process, and is removed by the next call. Raises `BackupRefused`.
    """
    with named(path, wanted="Can't write the backup"):
        remove_partial(path.parent)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(part, flags, 0o600), "w+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
                file.flush()
                os.fsync(file.fileno())
                if replace:
                    part.replace(path)
                else:
                    _link(part, path)
                _flush_folder(path.parent)
            finally:
                part.unlink(missing_ok=True)


def _link(part: Path, path: Path) -> None:
    """Give ``part`` its name; unlike a rename this never replaces a file."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise BackupRefused(
            f"{path} exists. Choose another name or a folder, or replace it with --force."
        ) from None
    except OSError:  # a file system without hard links
        part.replace(path)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems can't
        pass
    finally:
        os.close(descriptor)


def remove_partial(folder: Path) -> None:
    """Remove the partial files of killed processes."""
    for path in folder.glob(".*.part"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


class Reader:
    """An open archive with a valid manifest. Contents are checked while they are read."""

    def __init__(self, path: Path, *, shown: Path | None = None) -> None:
        """Open ``path``, named ``shown`` in messages.

        Raises `BadArchive`, or `BackupRefused` if the file can't be read.
        """
        self.path = shown or path
        with named(path, wanted="Can't read the backup"), path.open("rb") as probe:
            probe.read(1)
        with self._intact():
            self._archive = zipfile.ZipFile(path)
            try:
                self.manifest = self._manifest()
                self._members = self._checked_members()
            except BaseException:
                self._archive.close()
                raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a member. Raises `BadArchive` at its end if it was changed."""
        member = self._members[name]
        sha256, size = hashlib.sha256(), 0
        with self._intact(), self._archive.open(name) as file:
            while block := file.read(_BLOCK):
                size += len(block)
                if size > member.size:
                    break
                sha256.update(block)
                yield block
        if size != member.size or sha256.hexdigest() != member.sha256:
            raise self._bad(f"its member {name} differs from the manifest")

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a table, without their ends."""
        rest = b""
        for block in self.blocks(name):
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
            if len(rest) > _LINE_BYTES:
                raise self._bad(f"a row of {name} is longer than {_LINE_BYTES >> 20} MiB")
        if rest:
            raise self._bad(f"the last row of {name} has no end")

    def content(self, name: str) -> bytes:
        return b"".join(self.blocks(name))

    def names(self, folder: str) -> list[str]:
        return [name for name in self._members if name.startswith(f"{folder}/")]

    def verify(self) -> None:
        """Read everything. Raises `BadArchive` if anything differs from the manifest."""
        for name, member in self._members.items():
            rows = sum(block.count(b"\n") for block in self.blocks(name))
            if member.rows is not None and rows != member.rows:
                raise self._bad(f"{name} has {rows} rows instead of {member.rows}")

    def _manifest(self) -> Manifest:
        names = self._archive.namelist()
        if names.count(MANIFEST) != 1:
            raise self._bad("it is a ZIP archive, but no backup of this product")
        if self._archive.getinfo(MANIFEST).file_size > _MANIFEST_BYTES:
            raise self._bad("its manifest is too large")
        try:
            with self._archive.open(MANIFEST) as file:
                content = file.read(_MANIFEST_BYTES + 1)
            head = msgspec.json.decode(content, type=_Head)
            if head.kind != _KIND:
                raise self._bad("it is a ZIP archive, but no backup of this product")
            if head.format > FORMAT:
                raise BackupRefused(
                    f"{self.path} was written by version {head.version}, in a newer format. "
                    "Restore it with that version."
                )
            return msgspec.json.decode(content, type=Manifest)
        except msgspec.DecodeError as error:
            raise self._bad(f"its manifest can't be read ({error})") from error

    def _checked_members(self) -> dict[str, Member]:
        members = {member.name: member for member in self.manifest.members}
        for name in members:
            if not _NAME.fullmatch(name):
                raise self._bad(f"its manifest names an unknown member {name!r}")
        for info in self._archive.infolist():
            if info.filename != MANIFEST and info.filename not in members:
                raise self._bad(f"it has a member {info.filename!r} that the manifest lacks")
        if len(self._archive.infolist()) != len(members) + 1:
            raise self._bad("members are missing or exist twice")
        for name, member in members.items():
            if self._archive.getinfo(name).file_size != member.size:
                raise self._bad(f"its member {name} has another size than the manifest says")
        for stored in self.manifest.tables:
            found = members.get(member_of(stored.table))
            if found is None or found.rows != stored.rows:
                raise self._bad(f"the rows of {stored.table.name} are missing")
        for one in self.manifest.models:
            if one.included and f"models/sha256-{one.digest}" not in members:
                raise self._bad(f"the model file {one.digest} is missing")
        if SECRET_KEY not in members:
            raise self._bad("the secret key is missing")
        return members

    @contextmanager
    def _intact(self) -> Iterator[None]:
        """Turn errors of reading a damaged archive into `BadArchive`."""
        try:
            yield
        except (
            *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
            *(OSError, KeyError, ValueError),
        ) as error:
            raise self._bad(f"it is damaged, incomplete or not a backup ({error})") from error

    def _bad(self, reason: str) -> BadArchive:
        return BadArchive(f"{self.path} can't be used: {reason}.")


class _Head(msgspec.Struct):
    kind: str
    format: int
    version: str = "?"


def member_of(table: Table) -> str:
    return f"database/{table.name}.jsonl"
