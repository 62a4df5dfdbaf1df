"""What a model wrote for a title, and what of it is believed."""

from __future__ import annotations

import pytest

from chatsite.chat import titles

ASKED = "Can you explain to me how DNS works, and why a change of it takes so long to be seen?"
SAID = "DNS is a distributed database of names.\nIts answers are cached."
ASKED_ZH = "请给我讲讲域名系统是怎样工作的，为什么修改之后要很久才能生效？"


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("How DNS Works", "How DNS Works"),
        ('"How DNS works."\n', "How DNS works"),
        ('\n**Title: "DNS and its caches"**\n\nI chose it because', "DNS and its caches"),
        ("# DNS: names and caches", "DNS: names and caches"),
        ("1. DNS for beginners\n2. Names", "DNS for beginners"),
        ("Why is DNS slow?", "Why is DNS slow?"),
        ("DNS\u202e\x07 names", "DNS names"),
        ("《DNS names》", "DNS names"),
        ("<b>DNS</b>", "<b>DNS</b>"),
        # None of these names anything.
        ("", ""),
        ("  \n ``` ", ""),
        ("...", ""),
        ("A", ""),
        ("Sure! Here is a title for the conversation", ""),
        ("The title of this conversation is:", ""),
        ("域名系统的工作原理", ""),
        ("DNS is a distributed database", ""),
        (ASKED[:50], ""),
        ("Write a short title for this conversation", ""),
        ("DNS " * 20, ""),
    ],
)
def test_what_looks_like_a_title_is_one(written: str, title: str) -> None:
    assert titles.read(written, ASKED, SAID, cut=False) == title


def test_a_line_that_was_cut_is_no_title() -> None:
    assert titles.read("How DNS works and", ASKED, SAID, cut=True) == ""
    assert titles.read("How DNS works\nand more", ASKED, SAID, cut=True) == "How DNS works"


def test_a_heading_of_the_answer_is_a_title() -> None:
    heading = "The Domain Name System, explained"
    assert titles.read(heading, ASKED, f"# {heading}\n\nIt is", cut=False) == heading


def test_the_language_is_that_of_the_conversation() -> None:
    assert (
        titles.read("标题：域名系统的工作原理。", ASKED_ZH, "", cut=False) == "域名系统的工作原理"
    )
    assert titles.read("How DNS works", ASKED_ZH, "", cut=False) == ""
    assert titles.read("DNSの仕組み", "DNSはどのように動くのですか", "", cut=False) == "DNSの仕組み"
    assert "标题" in titles.question(ASKED_ZH).content
    for others in (ASKED, "DNSはどのように動くのですか", "Как работает DNS?", "123"):
        assert "title" in titles.question(others).content


@pytest.mark.parametrize(
    ("content", "worth"),
    [
        ("What is DNS?", False),
        ("hi", False),
        ("域名系统是什么？", False),
        (ASKED, True),
        (ASKED_ZH, True),
        ("Review this:\nx = 1", True),
        ("", True),
    ],
)
def test_what_the_list_shows_whole_needs_no_other_title(content: str, worth: bool) -> None:
    assert titles.pays(content) is worth
