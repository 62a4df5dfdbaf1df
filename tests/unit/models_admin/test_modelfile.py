"""The grammar of Modelfiles, by its table."""

import pytest

from models_admin import modelfile
from models_admin.modelfile import BadModelfile, parse
from models_admin.options import BadOption, sampling


def test_a_whole_one():
    file = parse(
        "# a comment\n  from llama\nPARAMETER temperature 0.5\nparameter  stop  <a b>\n"
        'PARAMETER stop "x"\nPARAMETER num_ctx 8192\nSYSTEM """two\nlines"""\n'
        "MESSAGE user hi # there\nMESSAGE  assistant yes\nLICENSE MIT\nLICENSE BSD\n"
    )
    assert file.source == "llama"
    assert file.parameters == {"temperature": 0.5, "stop": ["<a b>", "x"], "num_ctx": 8192}
    assert file.system == "two\nlines"
    assert file.messages == (("user", "hi # there"), ("assistant", "yes"))
    assert file.licenses == ("MIT", "BSD")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("FROM a # c", "a # c"),
        ("from\ta", "a"),
        ("FROM a\nFROM b", "b"),
        ('FROM "a"  \n', "a"),
        ("\ufeffFROM a\r\n", "a"),
        ("FROM 'a'", "'a'"),
        ("FROM \x07a", "a"),
    ],
)
def test_values(text, source):
    assert parse(text).source == source


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "^no FROM line$"),
        ("FLY x", r"\(line 1\): command must be one of \"from\", \"license\""),
        ("FROM a\r\nFLY x", r"\(line 3\): command"),
        ("FROM\na", "command must be one of"),
        ("FROM a\nMESSAGE bot x", r"\(line 2\): message role must be one of \"system\""),
        ('FROM "a', "^unexpected EOF$"),
        ('FROM a\nSYSTEM "hi" there', "^unexpected EOF$"),
        ("FROM a\nSYSTEM ", "^unexpected EOF$"),
        ("FROM a\nPARAMETER a-b 1", "^unexpected EOF: a-b$"),
        ("FROM a\nPARSER x", "PARSER"),
    ],
)
def test_what_is_no_modelfile(text, reason):
    with pytest.raises(BadModelfile, match=reason):
        parse(text)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("flying 1", "unknown parameter 'flying'"),
        ("Temperature 1", "unknown parameter 'Temperature'"),
        ("top_k 1.5", r"invalid int value \[1.5\]"),
        ("temperature hot", r"invalid float value \[hot\]"),
        ("use_mmap maybe", r"invalid bool value \[maybe\]"),
        ("temperature 9", "temperature"),
    ],
)
def test_parameters_that_can_not_be(line, reason):
    with pytest.raises(BadOption, match=reason):
        parse(f"FROM a\nPARAMETER {line}")


def test_minus_one_is_none():
    assert sampling({"seed": -1, "num_predict": -1, "unknown": 1}) == {
        "seed": None,
        "max_tokens": None,
    }


@pytest.mark.parametrize("value", ["1", True, [1], 1.5])
def test_options_of_a_wrong_type(value):
    with pytest.raises(BadOption, match='option "top_k" must be of type integer'):
        sampling({"top_k": value})


def test_what_is_written_reads_as_the_same():
    text = modelfile.write(
        "a:b",
        parameters={"stop": ['"', " x", "y"], "temperature": 0.0, "use_mmap": False},
        template="{{ x }}\n",
        system='say "hi"',
        licenses=("one\ntwo",),
        messages=(("user", "q"), ("assistant", 'a "b" c')),
    )
    file = parse(text)
    assert file.parameters == {"stop": ['"', " x", "y"], "temperature": 0.0, "use_mmap": False}
    assert (file.template, file.system) == ("{{ x }}\n", 'say "hi"')
    assert file.licenses == ("one\ntwo",)
    assert file.messages == (("user", "q"), ("assistant", 'a "b" c'))


@pytest.mark.parametrize(("data", "text"), [("ä".encode("utf-16"), "ä"), (b"\xef\xbb\xbfa", "a")])
def test_encodings(data, text):
    assert modelfile.decode(data) == text


def test_a_role_that_there_is_none_of():
    """As a program may send it, without a Modelfile."""
    assert modelfile.role("user") == "user"
    with pytest.raises(modelfile.BadModelfile):
        modelfile.role("evil")
