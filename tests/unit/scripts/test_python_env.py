"""When llama.cpp is compiled anew."""

import json

import pytest

from scripts.setup.python_env import built_otherwise

KEY = "cmake.define.CHATSITE_BUILD"


@pytest.mark.parametrize(
    ("content", "anew"),
    [
        (json.dumps({"config_settings": {KEY: "mine"}}), False),
        (json.dumps({"config_settings": {KEY: "with CUDA"}}), True),
        (json.dumps({"config_settings": {}}), True),
        ("{", True),
        (None, True),
    ],
)
def test_a_build_with_other_options_is_made_again(tmp_path, content, anew):
    folder = tmp_path / "lib/python3.11/site-packages/llama_cpp_python-0.3.36.dist-info"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "uv_build.json").write_text(content)
    assert built_otherwise(tmp_path, "mine") is anew


def test_what_is_not_there_need_not_be_made_again(tmp_path):
    assert not built_otherwise(tmp_path, "mine")
