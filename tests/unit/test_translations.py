"""Every text that a person sees has its Chinese."""

from __future__ import annotations

import re

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from tests.support.stack import ROOT

FOLDER = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES"
DOMAINS = ("django", "djangojs")
# `%(name)s` and `%s` of Python, `{name}` of the page.
PLACES = re.compile(r"%\(\w+\)[a-z]|%[a-z]|\{\w+\}")
# gettext("…") of the page's modules, whose text may stand on the next line.
PAGE_TEXT = re.compile(r'\bgettext\(\s*("(?:[^"\\]|\\.)*")')


def catalogue(domain: str) -> Catalog:
    with (FOLDER / f"{domain}.po").open("rb") as file:
        return read_po(file, locale="zh_Hans")


@pytest.mark.parametrize("domain", DOMAINS)
def test_everything_is_translated(domain: str) -> None:
    texts = [message for message in catalogue(domain) if message.id]
    assert texts
    assert [message.id for message in texts if message.fuzzy] == []
    for message in texts:
        strings = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(strings), message.id


@pytest.mark.parametrize("domain", DOMAINS)
def test_translations_have_the_same_places(domain: str) -> None:
    for message in catalogue(domain):
        if not message.id:
            continue
        source = message.id[-1] if isinstance(message.id, tuple) else message.id
        strings = message.string if isinstance(message.string, tuple) else (message.string,)
        for string in strings:
            assert sorted(PLACES.findall(string)) == sorted(PLACES.findall(source)), source


def test_the_page_has_no_text_that_the_catalogue_lacks() -> None:
    known = {message.id for message in catalogue("djangojs")}
    for module in (ROOT / "static" / "src").glob("*.js"):
        for text in PAGE_TEXT.findall(module.read_text()):
            # A text without escapes is the same in JavaScript and here.
            assert text.strip('"') in known, f"{module.name}: {text}"


def test_templates_and_python_have_no_text_that_the_catalogue_lacks() -> None:
    known = {
        text
        for message in catalogue("django")
        for text in (message.id if isinstance(message.id, tuple) else (message.id,))
    }
    tag = re.compile(r'\{%-?\s*translate\s+"([^"]+)"')
    for template in (ROOT / "templates").rglob("*.html"):
        for text in tag.findall(template.read_text()):
            assert text in known, f"{template.name}: {text}"
