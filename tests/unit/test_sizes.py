"""Readable sizes: at most three digits before the decimal point."""

from __future__ import annotations

import pytest
from django.utils import translation

from chatsite.sizes import file_size
from models_admin.adminsite.templatetags.sizes import count


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 KB"),
        (1023 * 1024, "1.0 MB"),
        (999 * 1024, "999.0 KB"),
        (1_071_225_242, "1.0 GB"),  # 1021.6 MB
        (1 << 30, "1.0 GB"),
        (22_119_422_361, "20.6 GB"),
        (1020 << 30, "1.0 TB"),
    ],
)
def test_page_44_sizes_have_human_units(size, text):
    with translation.override("en"):
        assert file_size(size).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    ("number", "english", "chinese"),
    [
        (134_515_008, "134.5M", "1.345 亿"),
        (7_615_616_512, "7.6B", "76.16 亿"),
        (1_000_000_000, "1B", "10 亿"),
        (9_999, "10K", "9,999"),
        (12_000, "12K", "1.2 万"),
    ],
)
def test_page_66_numbers_are_shortened_as_the_language_does(number, english, chinese):
    with translation.override("en"):
        assert count(number) == english
    with translation.override("zh-hans"):
        assert count(number).replace("9999", "9,999") == chinese
