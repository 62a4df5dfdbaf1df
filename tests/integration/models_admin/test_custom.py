"""Custom models: created from Modelfiles, applied to requests, written back."""

import pytest
from django.core.management import CommandError, call_command

from chatsite.engine.contract.messages import ChatMessage, PromptOptions
from chatsite.errors import ModelMissing
from models_admin.config import custom
from models_admin.config.custom import Configuration
from models_admin.config.go_template import UntranslatableTemplate
from models_admin.config.modelfile import BadModelfile
from models_admin.store import files, versions
from tests.support.gguf import write

pytestmark = pytest.mark.django_db(transaction=True)
USER = ChatMessage("user", "hi")


@pytest.fixture
def tiny(tmp_path, data_dir):
    return files.import_file(write(tmp_path / "tiny.gguf"), "tiny")


def test_a_custom_model_inherits_and_comes_back_as_a_modelfile(tiny):
    custom.create("a", "FROM tiny\nSYSTEM one\nPARAMETER top_k 5\nPARAMETER seed 1\nLICENSE MIT")
    model = custom.create("b", "FROM A\nPARAMETER seed 2\nMESSAGE user q")
    made = custom.of(model)
    assert made == Configuration(
        parent="a:latest",
        parameters={"top_k": 5, "seed": 2},
        system="one",
        messages=(("user", "q"),),
        licenses=("MIT",),
    )
    assert model.version == tiny.version
    custom.create("c", custom.as_modelfile(model))
    assert custom.configuration("c") == made


def test_a_copy_keeps_the_configuration_and_an_import_replaces_it(tiny, tmp_path):
    custom.create("a", "FROM tiny\nSYSTEM one")
    versions.copy_name("a", "b")
    assert custom.configuration("b").system == "one"
    files.import_file(write(tmp_path / "again.gguf"), "b")
    assert custom.configuration("b") == Configuration()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("FROM nothing", ModelMissing),
        ("FROM tiny\nADAPTER ./x.gguf", BadModelfile),
        ("FROM tiny\nTEMPLATE {{ .Prompt }}{{ .Tools }}", UntranslatableTemplate),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_an_invalid_custom_model_is_refused(text, error):
    with pytest.raises(error):
        custom.create("x", text)
    assert custom.configuration("x") == Configuration()


def test_the_request_takes_precedence_over_the_model():
    made = Configuration(system="S", parameters={"top_k": 5, "seed": 1})
    request = custom.apply(made, [ChatMessage("system", "mine"), USER], {"seed": 2}, system="site")
    assert [m.content for m in request.messages] == ["mine", "hi"]
    assert (request.params.top_k, request.params.seed) == (5, 2)
    assert request.options.administered == 0


def test_a_joined_message_is_not_the_administrators_alone():
    made = Configuration(system="S", messages=(("user", "q"),))
    request = custom.apply(made, [USER], {})
    assert [m.content for m in request.messages] == ["S", "q\n\nhi"]
    assert request.options.administered == 1


def test_a_go_template_reaches_the_engine_as_jinja():
    configured = Configuration(template="[{{ .Prompt }}]")
    request = custom.apply(configured, [USER], {})
    assert request.options.template.startswith("{%")
    assert request.options.template_administered
    own = custom.apply(configured, [USER], {}, prompt=PromptOptions(template="mine"))
    assert own.options.template == "mine"
    assert not own.options.template_administered


def test_the_command_line(tiny, tmp_path, capsys):
    file = tmp_path / "Modelfile"
    file.write_text("FROM tiny\nSYSTEM Arr.\nPARAMETER top_k 5\n")
    call_command("models", "create", "pirate", "-f", str(file))
    assert "pirate:latest was created from tiny:latest." in capsys.readouterr().out
    for part, shown in [("system", "Arr."), ("parameters", "top_k  5"), ("template", "")]:
        call_command("models", "show", "pirate", f"--{part}")
        assert capsys.readouterr().out.strip() == shown
    call_command("models", "show", "pirate", "--modelfile")
    assert capsys.readouterr().out.startswith('FROM tiny:latest\nSYSTEM "Arr."')
    with pytest.raises(CommandError, match="can't be read"):
        call_command("models", "create", "x", "-f", str(tmp_path / "none"))
