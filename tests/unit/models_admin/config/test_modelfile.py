"""The grammar of Modelfiles, as a table."""

import msgspec
import pytest

from chatsite.engine.contract.messages import SamplingParams
from models_admin.config import modelfile
from models_admin.config.modelfile import BadModelfile, parse
from models_admin.config.options import BadOption, sampling


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
def test_invalid_modelfiles_are_refused(text, reason):
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
        ("temperature nan", "temperature"),
    ],
)
def test_invalid_parameters_are_refused(line, reason):
    with pytest.raises(BadOption, match=reason):
        parse(f"FROM a\nPARAMETER {line}")


def test_minus_one_means_absent():
    assert sampling({"seed": -1, "num_predict": -1, "unknown": 1}) == {
        "seed": None,
        "max_tokens": None,
    }


@pytest.mark.parametrize(
    ("name", "value", "field", "used"),
    [
        ("seed", 2**40, "seed", 2**40 % (2**32 - 1)),
        ("seed", 10**30, "seed", 10**30 % (2**32 - 1)),
        ("seed", 2**32 - 1, "seed", 0),
        ("seed", -5, "seed", None),
        ("num_predict", 0, "max_tokens", None),
        ("num_predict", -2, "max_tokens", None),
        ("num_predict", 10**9, "max_tokens", 10_000_000),
        ("temperature", 10, "temperature", 5),
        ("temperature", -1, "temperature", 0),
        ("top_k", -1, "top_k", 0),
        ("top_p", 1.5, "top_p", 1),
        ("top_p", 0, "top_p", 1e-9),
        ("min_p", 2, "min_p", 1),
        ("typical_p", 0, "typical_p", 1.0),
        ("repeat_penalty", 0, "repeat_penalty", 1.0),
        ("repeat_penalty", 99, "repeat_penalty", 10),
        ("repeat_last_n", -7, "repeat_last_n", -1),
        ("presence_penalty", 5, "presence_penalty", 2),
        ("frequency_penalty", -5, "frequency_penalty", -2),
        ("stop", ["", "x"], "stop", ["x"]),
    ],
)
def test_d2_d14_t32_values_out_of_range_are_taken_as_ollama_takes_them(name, value, field, used):
    assert sampling({name: value}) == {field: used}
    msgspec.convert(sampling({name: value}), SamplingParams)


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", 9), ("top_p", 1.5), ("num_predict", 0)]
)
def test_forms_keep_to_the_ranges(name, value):
    with pytest.raises(BadOption, match=name):
        sampling({name: value}, exact=True)


@pytest.mark.parametrize("value", ["1", True, [1], 1.5, float("inf")])
def test_options_of_a_wrong_type(value):
    with pytest.raises(BadOption, match='option "top_k" must be of type integer'):
        sampling({"top_k": value})


def test_a_written_modelfile_parses_to_the_same_values():
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


def test_an_unknown_role_is_refused():
    """As a client may send it without a Modelfile."""
    assert modelfile.role("user") == "user"
    with pytest.raises(modelfile.BadModelfile):
        modelfile.role("evil")
