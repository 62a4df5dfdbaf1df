"""Every text that a person sees has its Chinese."""

from __future__ import annotations

import re

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po

from tests.support.stack import ROOT

FOLDER = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES"
DOMAINS = ("django", "djangojs")
# `%(name)s` and `%s` of Python, `{name}` of the page.
PLACES = re.compile(r"%\(\w+\)[a-z]|%[a-z]|\{\w+\}")
# gettext("…") of the page's modules, whose text may stand on the next line.
PAGE_TEXT = re.compile(r'\bgettext\(\s*("(?:[^"\\]|\\.)*")')

TEMPLATE_TEXT = re.compile(r'\{%-?\s*translate\s+"([^"]+)"')
PYTHON_KEYWORDS = {"_": None, "gettext": None, "gettext_lazy": None, "ngettext": (1, 2)}


def catalogue(domain: str) -> Catalog:
    with (FOLDER / f"{domain}.po").open("rb") as file:
        return read_po(file, locale="zh_Hans")


def texts(text: object) -> list[str]:
    """One text, or the forms of a plural, as a list."""
    return [str(part) for part in text] if isinstance(text, (tuple, list)) else [str(text or "")]


@pytest.mark.parametrize("domain", DOMAINS)
def test_everything_is_translated(domain: str) -> None:
    messages = [message for message in catalogue(domain) if message.id]
    assert messages
    assert [message.id for message in messages if message.fuzzy] == []
    assert [message.id for message in messages if not all(texts(message.string))] == []


@pytest.mark.parametrize("domain", DOMAINS)
def test_translations_have_the_same_places(domain: str) -> None:
    for message in catalogue(domain):
        source = texts(message.id)[-1]
        for string in texts(message.string) if message.id else []:
            assert sorted(PLACES.findall(string)) == sorted(PLACES.findall(source)), source


def test_the_page_has_no_text_that_the_catalogue_lacks() -> None:
    known = {message.id for message in catalogue("djangojs")}
    for module in (ROOT / "static" / "src").rglob("*.js"):
        for text in PAGE_TEXT.findall(module.read_text()):
            # A text without escapes is the same in JavaScript and here.
            assert text.strip('"') in known, f"{module.name}: {text}"


def test_the_server_has_no_text_that_the_catalogue_lacks() -> None:
    known = {text for message in catalogue("django") for text in texts(message.id)}
    for template in (ROOT / "templates").rglob("*.html"):
        for text in TEMPLATE_TEXT.findall(template.read_text()):
            assert text in known, f"{template.name}: {text}"
    for package in ("chatsite", "models_admin"):
        for module in (ROOT / package).rglob("*.py"):
            with module.open("rb") as file:
                found = list(extract("python", file, keywords=PYTHON_KEYWORDS))
            for line, text, *_ in found:
                assert set(texts(text)) <= known, f"{module.name}:{line}"
