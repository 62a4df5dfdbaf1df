"""`manage.py models` and `manage.py doctor`."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from models_admin import catalogue, store
from models_admin.models import ModelName
from tests.support.gguf import write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tiny(tmp_path, data_dir):
    return write(tmp_path / "tiny.gguf")


def models(capsys, *arguments):
    call_command("models", *map(str, arguments))
    return capsys.readouterr().out


def test_the_life_of_a_model(tiny, capsys):
    assert "No models" in models(capsys, "list")
    assert "tiny:latest is installed" in models(capsys, "import", tiny, "--name", "tiny")
    assert "big:1b is installed" in models(capsys, "cp", "TINY", "big:1b")
    assert [line.split()[0] for line in models(capsys, "list").splitlines()] == [
        "big:1b",
        "tiny:latest",
    ]
    shown = models(capsys, "show", "Big:1B")
    assert "architecture" in shown
    assert "llama" in shown
    models(capsys, "rm", "big:1b")
    models(capsys, "rm", "tiny")
    assert not ModelName.objects.exists()


def test_the_list_for_programs(tiny, capsys):
    models(capsys, "import", tiny, "--name", "tiny")
    (row,) = json.loads(models(capsys, "list", "--json"))
    assert row["name"] == "tiny:latest"
    assert row["size"] == tiny.stat().st_size
    assert row["present"] is True
    assert len(row["digest"]) == 64


def test_the_list_says_what_is_wrong(tiny, capsys):
    version = store.import_file(tiny, "tiny").version
    ModelName.objects.update(enabled=False)
    catalogue.quarantine(version.digest, "signal 11")
    version.path.unlink()
    out = models(capsys, "list")
    assert "not offered; quarantined: signal 11; its file is missing" in out


def test_how_a_model_is_held_in_memory(tiny, capsys):
    models(capsys, "import", tiny, "--name", "tiny")
    said = models(capsys, "set", "tiny", "--context", 2048, "--keep-alive", "5m", "--pin")
    assert "context 2048, slots default, keep-alive 300.0, pinned True" in said
    said = models(capsys, "set", "tiny", "--context", "default", "--keep-alive=-1", "--unpin")
    assert "context default, slots default, keep-alive -1.0, pinned False" in said
    for wrong in (
        ("--slots", "0"),
        ("--slots", "many"),
        ("--context", "8"),
        ("--keep-alive", "5w"),
    ):
        with pytest.raises(CommandError):
            call_command("models", "set", "tiny", wrong)
    assert ModelName.objects.get().slots is None


def test_the_catalogue_says_what_fits(capsys, data_dir, settings):
    settings.ENV = settings.ENV.model_copy(update={"memory_mb": 8192})
    lines = models(capsys, "catalogue").splitlines()
    assert any(line.startswith("smollm2:135m ") and "Fits:" in line for line in lines)
    assert any(line.startswith("llama3.1:70b ") and "Does not fit" in line for line in lines)
    rows = {row["source"]: row for row in json.loads(models(capsys, "catalogue", "--json"))}
    assert rows["qwen2.5:7b"]["size"] == 4683073184
    assert rows["qwen2.5:7b"]["verdict"] == "fits"
    assert rows["qwen2.5:14b"]["verdict"] == "none"


def test_if_missing_reads_nothing_when_the_name_is_installed(tiny, capsys, monkeypatch):
    models(capsys, "import", tiny, "--name", "tiny", "--if-missing")
    tiny.unlink()
    monkeypatch.delattr(store, "import_file")
    assert "installed" in models(capsys, "import", tiny, "--name", "Tiny", "--if-missing")


def test_if_missing_brings_back_a_file_that_is_gone(tiny, capsys):
    version = store.import_file(tiny, "tiny").version
    version.path.unlink()
    models(capsys, "import", tiny, "--name", "tiny", "--if-missing")
    assert version.path.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("show", "x"), "x:latest is not installed"),
        (("rm", "../x"), "namespace"),
        (("cp", "x", "y"), "not installed"),
        (("import", "/nowhere.gguf", "--name", "x"), "No such file"),
        (("import", "/nowhere.gguf", "--name", "模型"), "模型"),
        (("import", "/nowhere.gguf"), "--name"),
        (("fly",), "fly"),
        ((), "ACTION"),
    ],
)
@pytest.mark.usefixtures("data_dir")
def test_what_can_not_be_done_is_said(arguments, reason):
    with pytest.raises(CommandError, match=reason):
        call_command("models", *arguments)


@pytest.mark.parametrize("action", ["ps", "load", "unload", "run"])
def test_without_a_site_the_way_to_start_it_is_said(tiny, settings, monkeypatch, action):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello"))
    store.import_file(tiny, "tiny")
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    with pytest.raises(CommandError, match="make run"):
        call_command("models", action, *([] if action == "ps" else ["tiny"]))


def doctor(capsys) -> tuple[int, dict[str, str]]:
    code = 0
    try:
        call_command("doctor", "--json")
    except SystemExit as left:
        code = int(left.code or 0)
    found = json.loads(capsys.readouterr().out)
    return code, {finding["what"]: finding["level"] for finding in found}


def level(found: dict[str, str], text: str) -> str:
    (what,) = (what for what in found if text in what)
    return found[what]


@pytest.mark.usefixtures("redis_url")
class TestDoctor:
    def test_a_sound_installation_passes(self, tiny, capsys):
        store.import_file(tiny, "tiny")
        code, found = doctor(capsys)
        assert code == 0
        assert level(found, "Python") == "OK"
        assert level(found, "Threads per model") == "OK"
        assert level(found, "Redis answers") == "OK"
        assert level(found, "tiny:latest") == "OK"
        assert level(found, "No inference host") == "WARN"

    @pytest.mark.parametrize("damage", ["unlink", "touch"])
    def test_a_missing_or_short_file_fails(self, tiny, capsys, damage):
        path = store.import_file(tiny, "tiny").version.path
        path.unlink()
        if damage == "touch":
            path.touch()
        code, found = doctor(capsys)
        assert code == 1
        assert level(found, "tiny:latest") == "FAIL"

    def test_it_shows_tunings_with_reasons_and_survives_a_damaged_file(
        self, tiny, data_dir, capsys
    ):
        digest = store.import_file(tiny, "tiny").version.digest
        plain = {"use_extra_bufts": False, "flash_attention": False, "threads": 2, "ubatch": 512}
        flash = plain | {"flash_attention": True}
        measured = {"prefill_ms": 4.0, "decode_ms": 10.0, "depth": 512}
        tried = [{"tuning": plain, "measured": measured}, {"tuning": flash, "problem": "SIGSEGV"}]
        path = data_dir / "tuning.json"
        path.write_text(json.dumps({f"{digest}:host": {"tuning": plain, "tried": tried}}))
        _, found = doctor(capsys)
        assert level(found, "Tuned for tiny:latest") == "OK"
        assert level(found, "100 tok/s decode. It is the fastest") == "OK"
        assert level(found, "flash attention on, threads 2, SIGSEGV") == "OK"
        path.write_text("{")
        code, found = doctor(capsys)
        assert (code, level(found, "tuning.json")) == (0, "WARN")

    def test_without_redis_it_goes_on(self, settings, capsys, data_dir):
        settings.REDIS_URL = "unix:///nowhere/redis.sock"
        _, found = doctor(capsys)
        assert level(found, "does not answer") in {"WARN", "FAIL"}
        assert level(found, "No model") == "WARN"

    def test_it_is_readable(self, data_dir, capsys):
        call_command("doctor")
        lines = capsys.readouterr().out.splitlines()
        assert all(line.startswith(("OK  ", "WARN", "FAIL", "      ")) for line in lines)
