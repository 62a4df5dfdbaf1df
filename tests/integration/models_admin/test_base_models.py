"""Models without a chat template are base models; others have the abilities of their template."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command

from chatsite.api.openai import models as api_models
from chatsite.engine.prompting.template import CHATML
from models_admin import catalogue, facts
from models_admin.config import custom
from models_admin.store import files, versions
from tests.support import templates, tiny_model

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def base(tmp_path, data_dir):
    return tiny_model.write(tmp_path / "base.gguf", template=None)


@pytest.fixture
def chat(tmp_path, data_dir):
    return tiny_model.write(tmp_path / "chat.gguf")


def run(*arguments: object) -> str:
    out = io.StringIO()
    call_command("models", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_an_import_says_that_it_is_a_base_model(base, chat):
    said = run("import", base, "--name", "base")
    assert "base:latest is installed" in said
    assert "It is a base model without a chat template" in said
    assert "/v1/completions" in said
    assert "base model" not in run("import", chat, "--name", "chat")
    [line] = [line for line in run("list").splitlines() if line.startswith("base")]
    assert "base model: only continues text" in line
    rows = json.loads(run("list", "--json"))
    assert {row["name"]: row["base"] for row in rows} == {
        "base:latest": True,
        "chat:latest": False,
    }


def test_a_base_model_is_listed_as_one_and_not_the_default_if_there_is_another(base, chat):
    files.import_file(base, "base")
    assert catalogue.default_name() is None
    files.import_file(chat, "chat")
    assert catalogue.default_name() == "chat:latest"
    offered = {one["name"]: one.get("base", False) for one in catalogue.offered()}
    assert offered == {"base:latest": True, "chat:latest": False}


def test_probe_results_are_saved_and_deleted_with_the_model(base, data_dir):
    model = files.import_file(base, "base")
    assert facts.only_continues(model)
    facts.natures.clear()
    model.version.path.rename(data_dir / "elsewhere")  # the header can't be read any more
    assert facts.only_continues(model)
    assert facts.capabilities(model) == ["completion"]
    versions.remove_name("base")
    assert not list((data_dir / "facts").iterdir())


def test_its_capabilities_are_those_of_completions(base, chat):
    models = [files.import_file(path, path.stem) for path in (base, chat)]
    assert [facts.capabilities(one) for one in models] == [["completion"], ["completion", "tools"]]
    assert [api_models.as_model(one).capabilities for one in models] == [
        ["completion"],
        ["chat", "completion", "tools"],
    ]


def test_a_template_of_its_own_makes_it_a_chat_model(base):
    files.import_file(base, "base")
    made = custom.create("made", f'FROM base\nTEMPLATE """{CHATML}"""')
    assert not facts.only_continues(made)
    assert "tools" in facts.capabilities(made)


@pytest.mark.parametrize(
    ("name", "abilities"),
    [
        ("HARMONY", ["completion", "tools", "thinking"]),
        ("UNKNOWN", ["completion", "tools", "thinking"]),
        ("PAIRS", ["completion", "tools"]),
        ("ONE_CALL", ["completion", "tools"]),
        ("LAST_SYSTEM", ["completion", "thinking"]),
        # The template has other variables for tools, so they are described in the prompt.
        ("XML_TOOLS", ["completion"]),
        ("FOLDING", ["completion"]),
    ],
)
def test_t45_abilities_are_what_rendering_shows(tmp_path, data_dir, name, abilities):
    path = tiny_model.write(tmp_path / "model.gguf", template=getattr(templates, name))
    assert [*facts.nature(files.import_file(path, "model").version).abilities] == abilities


def test_a_hostile_template_does_not_delay_the_list(tmp_path, data_dir):
    endless = (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
        "{{ messages }}"
    )
    path = tiny_model.write(tmp_path / "model.gguf", template=endless)
    assert facts.nature(files.import_file(path, "model").version).abilities == ("completion",)
