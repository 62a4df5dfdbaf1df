"""The documentation agrees with the code: generated pages, names, links and anchors."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from chatsite.env import Environment, variable_of
from chatsite.management import reference
from chatsite.site_settings import fields

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)
_LINK = re.compile(r"!?\[[^\[\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_REFERENCE = re.compile(r"^\[[^\]\n]+\]:\s+<?([^\s>]+)", re.M)
# Set only for a test run, see `tests/settings.py`.
_OF_TESTS = {"CHATSITE_TEST_MODEL", "CHATSITE_TEST_DATABASE_URL", "CHATSITE_TEST_SHARED"}


def markdown_files() -> list[Path]:
    """Return every Markdown file that git tracks or would track."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {ROOT / name for name in listing.stdout.split("\0") if name}
    return sorted(path for path in found if path.is_file())


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, spelled as GitHub and GitLab do."""
    found: dict[str, int] = {}
    result = set()
    for title in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", _FENCE.sub("", path.read_text()), re.M):
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        result.add(f"{slug}-{count}" if count else slug)
    return result


def links(path: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", path.read_text()))
    return [*_LINK.findall(text), *_REFERENCE.findall(text)]


def broken_links(path: Path) -> list[str]:
    broken = []
    for link in links(path):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _hash, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        is_known = target.exists() and target.is_relative_to(ROOT)
        if not is_known or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_and_anchor_resolves(path: Path) -> None:
    assert broken_links(path) == []


def test_broken_links_and_anchors_are_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# A title: `code`\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[good](other.md#a-title-code) [good\nstill](#here) [good](other.md#twice-1)\n"
        "[gone](none.md) [gone](other.md#none) [out](../etc.md) ![gone](none.png)\n"
        "```\n[code](none.md)\n```\n[far](https://example.org/none)\n[ref]: other.md#nowhere\n"
    )
    assert broken_links(page) == [
        *("none.md", "other.md#none", "../etc.md", "none.png", "other.md#nowhere")
    ]


def test_generated_pages_equal_the_code() -> None:
    differing = [
        str(path.relative_to(ROOT))
        for path, text in reference.pages().items()
        if not path.exists() or path.read_text() != text
    ]
    assert differing == [], "Run: manage.py docs"


def test_a_page_without_marks_of_its_generated_part_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        reference.with_generated("# A page\n", "| table |")


def test_the_reference_has_every_setting() -> None:
    page = reference.settings_page()
    for name, field in Environment.model_fields.items():
        assert f"| `{variable_of(name)}` |" in page
        assert field.description
        assert field.description in page


def test_a_setting_in_no_group_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(reference, "GROUPS", reference.GROUPS[1:])
    with pytest.raises(ValueError, match="port"):
        reference.settings_page()


def test_the_reference_has_limits_and_choices() -> None:
    page = reference.settings_page()
    assert "| `CHATSITE_PORT` | `8000` | ≥ 1, ≤ 65535 |" in page
    assert "| `CHATSITE_LOG_FORMAT` | `text` | `text`, `json` |" in page
    assert "| `CHATSITE_GPU_LAYERS` | `auto` | ≥ 0, ≤ 10000; `auto` |" in page


def test_the_reference_has_every_command_with_its_arguments() -> None:
    page = reference.cli_page()
    assert "`import PATH --name NAME [--if-missing] [--move]`" in page
    assert "`manage.py up [--host HOST] [--port PORT] [--data-dir DATA_DIR] [--only PARTS]`" in page
    assert "--verbosity" not in page
    assert "--settings" not in page


def test_the_reference_has_every_error() -> None:
    from chatsite import errors

    page = reference.errors_page()
    for kind in errors.kinds():
        if kind.__module__.startswith(("chatsite.", "models_admin.")):
            assert f"| `{kind.code}` | {kind.status} |" in page


def test_every_setting_in_the_documentation_exists() -> None:
    known = {variable_of(name) for name in Environment.model_fields} | _OF_TESTS
    known |= {field.variable for field in fields.declared().values()}
    unknown = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in [*markdown_files(), *(ROOT / "deploy").rglob("*")]
        if path.is_file()
        for name in re.findall(r"\bCHATSITE_[A-Z][A-Z_]*[A-Z]\b", path.read_text())
        if name not in known
    }
    assert unknown == set()


def test_every_page_is_reachable_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    waiting = list(reached)
    while waiting:
        page = waiting.pop()
        named = [
            (page.parent / link.partition("#")[0]).resolve()
            for link in links(page)
            if "://" not in link
        ]
        targets = {path for path in named if path.suffix == ".md"}
        targets |= {path for folder in named if folder.is_dir() for path in folder.glob("*.md")}
        waiting += targets - reached
        reached |= targets
    pages = {path for path in markdown_files() if path.is_relative_to(ROOT / "docs")}
    assert pages - reached == set()


def test_every_command_in_the_documentation_exists() -> None:
    from django.core.management import get_commands, load_command_class

    commands = get_commands()

    @cache
    def actions(name: str) -> set[str]:
        parser = load_command_class(commands[name], name).create_parser("manage.py", name)
        choices = re.search(r"\{([\w,-]+)\} \.\.\.", parser.format_usage())
        return set(choices[1].split(",")) if choices else set()

    pattern = re.compile(r"manage\.py ([a-z][\w-]*)(?: ([a-z]\w*))?(?![\w.])")
    named = {
        (str(path.relative_to(ROOT)), *found)
        for path in markdown_files()
        for found in pattern.findall(path.read_text())
    }
    assert len(named) > 20
    assert {
        (path, name, action)
        for path, name, action in named
        if name != "help"
        and (name not in commands or (action and actions(name) and action not in actions(name)))
    } == set()


def test_every_file_in_the_architecture_exists() -> None:
    """Of those with a directory in their name; the text names them from several directories."""
    text = (ROOT / "chatsite/ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([\w./*-]+/[\w.*-]*)`", text))
    packages = (ROOT / "chatsite", ROOT / "models_admin", ROOT / "static/src")
    gone = {
        name
        for name in named
        if not name.startswith("/")
        and not any(ROOT.glob(name))
        and not any(any(package.rglob(name)) for package in packages)
    }
    assert len(named) > 50
    assert gone == set()


def test_metrics_in_the_documentation_exist() -> None:
    page = (ROOT / "docs/admin/monitoring.md").read_text()
    known = set(re.findall(r"^\| `(chatsite_\w+)`", reference.metrics_table(), re.M))
    named = {
        re.sub(r"(?<=_seconds)_(bucket|sum|count)$", "", name)
        for name in re.findall(r"\bchatsite_\w+", page)
    }
    assert known
    assert named == known


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("folder", ["chatsite", "chatsite/engine", "models_admin"])
def test_every_package_and_module_has_its_row_in_the_architecture(folder: str) -> None:
    """In the first column of the table below the folder's heading; packages end in a slash."""
    text = (ROOT / "chatsite/ARCHITECTURE.md").read_text()
    table = text.partition(f"\n### {folder}\n")[2].partition("\n#")[0]
    cells = re.findall(r"^\|([^|]*)\|", table, re.M)
    named = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    found = [path for path in (ROOT / folder).iterdir() if not path.name.startswith((".", "_"))]
    modules = {path.name for path in found if path.suffix == ".py"}
    packages = {
        f"{path.name}/"
        for path in found
        if (path / "__init__.py").exists() and path.name != "migrations"
    }
    assert modules | packages <= named
    assert {name for name in named if not (ROOT / folder / name).exists()} == set()
