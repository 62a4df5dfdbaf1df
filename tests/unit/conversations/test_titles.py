"""Titles written by a model, and which of them are accepted."""

from __future__ import annotations

import pytest

from chatsite.conversations import titles

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
        # None of these is a title.
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
def test_plausible_titles_are_accepted(written: str, title: str) -> None:
    assert titles.parse_title(written, ASKED, SAID, cut=False) == title


def test_a_line_that_was_cut_is_no_title() -> None:
    assert titles.parse_title("How DNS works and", ASKED, SAID, cut=True) == ""
    assert titles.parse_title("How DNS works\nand more", ASKED, SAID, cut=True) == "How DNS works"


def test_a_heading_of_the_answer_is_a_title() -> None:
    heading = "The Domain Name System, explained"
    assert titles.parse_title(heading, ASKED, f"# {heading}\n\nIt is", cut=False) == heading


def test_the_language_is_that_of_the_conversation() -> None:
    assert (
        titles.parse_title("标题：域名系统的工作原理。", ASKED_ZH, "", cut=False)
        == "域名系统的工作原理"
    )
    assert titles.parse_title("How DNS works", ASKED_ZH, "", cut=False) == ""
    assert (
        titles.parse_title("DNSの仕組み", "DNSはどのように動くのですか", "", cut=False)
        == "DNSの仕組み"
    )
    assert "标题" in titles.title_prompt(ASKED_ZH).content
    for others in (ASKED, "DNSはどのように動くのですか", "Как работает DNS?", "123"):
        assert "title" in titles.title_prompt(others).content


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
def test_a_message_short_enough_for_the_list_needs_no_other_title(
    content: str, worth: bool
) -> None:
    assert titles.worth_generating(content) is worth


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Write a long story number 7", "Long story number 7"),
        ("please tell me about the history of Rome", "History of Rome"),
        ("The history of Rome", "The history of Rome"),
        ("Can you please explain the offside rule?", "The offside rule?"),
        ("Hi, could you help me to plan a party", "Plan a party"),
        ("Explain quantum computing", "Explain quantum computing"),
        ("Write", "Write"),
        ("Writer's block again and again", "Writer's block again and again"),
        ("写一个关于大海的故事", "写一个关于大海的故事"),
        ("How do I show a list in Rust?", "How do I show a list in Rust?"),
    ],
)
def test_page_67_a_first_line_begins_with_its_subject(content: str, title: str) -> None:
    assert titles.first_line(content) == title
