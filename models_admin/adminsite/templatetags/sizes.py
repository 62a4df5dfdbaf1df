"""Template filters for sizes in bytes and for large numbers."""

from django import template
from django.utils import translation
from django.utils.formats import number_format

from chatsite.sizes import file_size

register = template.Library()
register.filter("file_size", file_size)

# Chinese groups digits by ten thousand.
_SHORT = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_CHINESE = ((10**12, "万亿"), (10**8, "亿"), (10**4, "万"))


@register.filter
def count(number: int) -> str:
    """Shorten a large number by language: ``134.5M`` in English, ``1.345 亿`` in Chinese."""
    chinese = (translation.get_language() or "").startswith("zh")
    for unit, name in _CHINESE if chinese else _SHORT:
        if number >= unit:
            digits = f"{number / unit:.4g}" if chinese else f"{number / unit:.1f}"
            shown = number_format(digits)
            return f"{shown} {name}" if chinese else f"{shown.removesuffix('.0')}{name}"
    return number_format(number)
