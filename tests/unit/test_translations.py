"""Every text that users see has a Chinese translation."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import allauth
import django
import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po
from django.utils.translation.template import templatize

from tests.support.stack import ROOT

FOLDER = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES"
DOMAINS = ("django", "djangojs")
# Placeholders: `%(name)s` and `%s` in Python, `{name}` in the page.
PLACES = re.compile(r"%\(\w+\)[a-z]|%[a-z]|\{\w+\}")
# gettext("…") in the page's modules; the text may be on the next line.
PAGE_TEXT = re.compile(r'\bgettext\(\s*("(?:[^"\\]|\\.)*")')

TEMPLATE_TEXT = re.compile(r'\{%-?\s*translate\s+"([^"]+)"')
PYTHON_KEYWORDS = {
    **dict.fromkeys(("_", "gettext", "gettext_lazy")),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (1, 2)),
}
# Calls in the Python source that Django makes from a template; a context precedes the text.
_STRING = r"""u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
TEMPLATE_CALL = re.compile(rf"gettext\(({_STRING})(?:\s*,\s*({_STRING}))?|\b_\(({_STRING})")


def catalogue(domain: str) -> Catalog:
    with (FOLDER / f"{domain}.po").open("rb") as file:
        return read_po(file, locale="zh_Hans")


def texts(text: object) -> list[str]:
    """Return a text, or the forms of a plural, as a list."""
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
            # A text without escapes is the same in JavaScript and Python.
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


def texts_of_the_server() -> set[str]:
    found: set[str] = set()
    for package in ("chatsite", "models_admin"):
        for module in (ROOT / package).rglob("*.py"):
            with module.open("rb") as file:
                for _line, text, *_ in extract("python", file, keywords=PYTHON_KEYWORDS):
                    found |= set(texts(text))
    for template in (ROOT / "templates").rglob("*.*"):
        source = templatize(template.read_text(), origin=template.name)
        for call in TEMPLATE_CALL.findall(source):
            found |= {ast.literal_eval(string) for string in call if string}
    return found


def texts_of_django() -> set[str]:
    """Return the texts of Django and its apps, which the project may translate differently."""
    found: set[str] = set()
    for folder in (Path(django.__file__).parent, Path(allauth.__file__).parent):
        for file in folder.rglob("locale/en/LC_MESSAGES/django.po"):
            with file.open("rb") as source:
                found |= {text for message in read_po(source) for text in texts(message.id)}
    return found


def test_b15_the_server_uses_all_its_translations() -> None:
    known = {text for message in catalogue("django") if message.id for text in texts(message.id)}
    assert sorted(known - texts_of_the_server() - texts_of_django()) == []


def test_b15_the_page_uses_all_its_translations() -> None:
    """A text that occurs in no module is never requested."""
    source = "".join(module.read_text() for module in (ROOT / "static" / "src").rglob("*.js"))
    known = {text for message in catalogue("djangojs") if message.id for text in texts(message.id)}
    unused = {text for text in known if json.dumps(text, ensure_ascii=False) not in source}
    assert sorted(unused) == []
