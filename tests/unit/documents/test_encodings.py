"""Detection of a text file's encoding."""

from __future__ import annotations

import pytest

from chatsite.documents import encodings
from chatsite.documents.encodings import NotText, decode

GERMAN = "Name;Ort;Größe\r\nMüller;Köln;größer"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "cp1252"),
        ("Café à la crème", "cp1252"),
        ("El niño comió piñas en España. ¿Qué?", "cp1252"),
        ("Preis: 5 €\r\nSumme: 10 €", "cp1252"),
        ("“Quoted” – it’s a dash…", "cp1252"),
        ("temperature 20°C ±1", "cp1252"),
        ("naïve", "cp1252"),
        ("STRAßE GRÖSSE", "cp1252"),
    ],
)
def test_t60_western_tables_are_windows_1252(text: str, encoding: str) -> None:
    decoded = decode(text.encode(encoding))
    assert (decoded.text, decoded.guessed) == (text, "Windows-1252")


@pytest.mark.parametrize("cut", [b"\xff", b"\xc3", b"\xe2\x82"])
@pytest.mark.parametrize("within", [False, True])
def test_t61_utf8_with_a_bad_byte_stays_utf8(cut: bytes, within: bool) -> None:
    text = "Zeile größer 字\n"
    data = text.encode() + cut + (text.encode() if within else b"")
    decoded = decode(data)
    assert decoded.text == text + "\ufffd" + (text if within else "")
    assert (decoded.guessed, decoded.replaced) == ("", 1)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Имя;Город\r\nИван;Москва", "cp1251"),
        ("Привет, как дела? Это простой текст.", "koi8-r"),
        ("名前,都市\n山田,東京\n", "shift_jis"),
        ("これはテストです。日本語の文章を書いています。", "euc-jp"),
        ("これはテストです。", "iso-2022-jp"),
        ("姓名,城市\n张三,北京\n", "gb18030"),
        ("使用Python语言和A和B", "gbk"),
        ("姓名,城市\n張三,臺北\n", "big5"),
        ("이름,도시\n홍길동,서울\n", "euc-kr"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy", "cp1250"),
        ("Zażółć gęślą jaźń", "iso8859-2"),
        ("Όνομα;Πόλη\r\nΓιώργος;Αθήνα", "cp1253"),
        ("İsim;Şehir\r\nIşık;İzmir;ığüşöç", "cp1254"),
        ("שלום עולם זה טקסט בעברית", "cp1255"),
        ("مرحبا بالعالم هذا نص عربي", "cp1256"),
        ("สวัสดีชาวโลก นี่คือข้อความภาษาไทย", "cp874"),
        ("Grüße aus Köln, schöne Größe", "mac-roman"),
        ("Grüße aus Köln, schöne Größe", "cp850"),
        ("Привет, как дела? Это простой текст.", "cp866"),
    ],
)
def test_t62_legacy_encodings_are_detected_and_reported(text: str, encoding: str) -> None:
    decoded = decode(text.encode(encoding))
    assert decoded.text == text
    # ISO-2022-JP is recognized by its escape sequences; the others are guesses, and marked as such.
    assert decoded.guessed or encoding == "iso-2022-jp"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "utf-16-le", "utf-16-be"])
def test_t63_unicode_with_and_without_a_mark(encoding: str) -> None:
    assert decode(GERMAN.encode(encoding)).text == GERMAN


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x00\x02\x00" * 50,
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        bytes(100),
        b"\x00a" * 3 + b"x",
    ],
)
def test_binary_content_is_no_text(data: bytes) -> None:
    with pytest.raises(NotText):
        decode(data)


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        ("Müller “x” 5 € l’été", 0.0),
        ("M黮ler", 0.0),
        ("K\u0434n", 1.0),
        ("größEÉ", 0.0),
        ("straÜe", 1.0),
        ("a§b", 1.0),
        ("\x81", 1.0),
        ("plain", 0.0),
    ],
)
def test_letters_where_no_language_puts_them(text: str, odd: float) -> None:
    assert encodings.odd_share(text) == odd
