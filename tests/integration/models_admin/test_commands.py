"""`manage.py models` and `manage.py doctor`."""

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from chatsite.hosts import status
from chatsite.hosts.status import HostStatus, ModelStatus
from chatsite.management import job_actions
from chatsite.management.progress_line import ProgressLine
from chatsite.sandbox import landlock
from chatsite.sandbox.protection import LANDLOCK, NETWORK, SECCOMP, Protection
from models_admin import catalogue
from models_admin.jobs import states
from models_admin.jobs.progress import Progress
from models_admin.models import Job, JobState, ModelName
from models_admin.store import files
from tests.support.gguf import VOCABULARY, write
from tests.support.jobs import ask

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tiny(tmp_path, data_dir):
    return write(tmp_path / "tiny.gguf")


def models(capsys, *arguments):
    call_command("models", *map(str, arguments))
    return capsys.readouterr().out


def test_the_lifecycle_of_a_model(tiny, capsys):
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


def test_the_list_as_json(tiny, capsys):
    models(capsys, "import", tiny, "--name", "tiny")
    (row,) = json.loads(models(capsys, "list", "--json"))
    assert row["name"] == "tiny:latest"
    assert row["size"] == tiny.stat().st_size
    assert row["present"] is True
    assert len(row["digest"]) == 64


def test_the_list_shows_problems(tiny, capsys):
    version = files.import_file(tiny, "tiny").version
    ModelName.objects.update(enabled=False)
    catalogue.quarantine(version.digest, "signal 11")
    version.path.unlink()
    out = models(capsys, "list")
    assert "hidden; quarantined: signal 11; its file is missing" in out


def test_how_a_model_is_held_in_memory(tiny, capsys):
    models(capsys, "import", tiny, "--name", "tiny")
    said = models(capsys, "set", "tiny", "--context", 2048, "--keep-alive", "5m", "--pin")
    assert "context 2048, slots default, keep-alive 300.0, pinned True" in said
    said = models(capsys, "set", "tiny", "--context", "default", "--keep-alive=-1", "--unpin")
    assert "context default, slots default, keep-alive -1.0, pinned False" in said


def test_page_2_and_8_default_and_longest_answer_are_set_by_command(tmp_path, data_dir, capsys):
    tiny = write(tmp_path / "tiny.gguf", extra=(VOCABULARY,))
    models(capsys, "import", tiny, "--name", "tiny")
    ModelName.objects.update(configuration={"template": "{{ .Prompt }}"})
    said = models(capsys, "set", "tiny", "--answer-tokens", 500, "--default")
    assert "maximum answer length 500, default for new chats" in said
    model = ModelName.objects.get()
    assert (model.answer_tokens, model.is_default) == (500, True)
    models(capsys, "set", "tiny", "--answer-tokens", "default")
    assert ModelName.objects.get().answer_tokens is None
    ModelName.objects.update(configuration={}, is_default=False)
    with pytest.raises(CommandError, match="chat template"):
        models(capsys, "set", "tiny", "--default")
    with pytest.raises(CommandError):
        models(capsys, "set", "tiny", "--answer-tokens", 0)
    for wrong in (
        ("--slots", "0"),
        ("--slots", "many"),
        ("--context", "8"),
        ("--keep-alive", "5w"),
    ):
        with pytest.raises(CommandError):
            call_command("models", "set", "tiny", wrong)
    assert ModelName.objects.get().slots is None


def test_a_default_that_is_refused_changes_nothing(tiny, capsys):
    models(capsys, "import", tiny, "--name", "tiny")
    ModelName.objects.update(enabled=False)
    with pytest.raises(CommandError, match="not installed"):
        models(capsys, "set", "tiny", "--context", 2048, "--pin", "--default")
    model = ModelName.objects.get()
    assert (model.context, model.pinned, model.is_default) == (None, False, False)


def claimed() -> Job:
    job = states.claim(ask().pk)
    assert job is not None
    return job


class TestWithoutRedis:
    """Commands that follow a job while Redis is not responding."""

    @pytest.fixture(autouse=True)
    def no_redis(self, settings, hub, sent, data_dir):
        settings.REDIS_URL = "unix:///nowhere/redis.sock"

    def test_a_job_of_a_worker_is_followed_in_the_database(self, monkeypatch, capsys):
        job = claimed()
        states.beat(job, stage="downloading", done=3, total=9)
        shown = []

        class Line(ProgressLine):
            def __call__(self, progress):
                shown.append(progress)
                states.finish(job, JobState.DONE)

        monkeypatch.setattr(job_actions, "ProgressLine", Line)
        call_command("models", "follow", str(job.pk))
        assert shown == [Progress("downloading", 3, 9)]

    def test_a_job_of_a_dead_worker_is_run_here(self, capsys):
        job = claimed()
        Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        call_command("models", "follow", str(job.pk))
        job.refresh_from_db()
        assert (job.state, job.attempt) == (JobState.DONE, 2)

    def test_a_pause_that_a_dead_worker_did_not_apply_is_applied(self, capsys):
        job = claimed()
        states.pause(job.pk)
        Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        with pytest.raises(CommandError, match="The job is paused"):
            call_command("models", "follow", str(job.pk))


def test_the_catalogue_shows_which_models_fit(capsys, data_dir, settings):
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
    monkeypatch.delattr(files, "import_file")
    assert "installed" in models(capsys, "import", tiny, "--name", "Tiny", "--if-missing")


def test_if_missing_brings_back_a_file_that_is_gone(tiny, capsys):
    version = files.import_file(tiny, "tiny").version
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
def test_failures_are_reported(arguments, reason):
    with pytest.raises(CommandError, match=reason):
        call_command("models", *arguments)


@pytest.mark.parametrize("action", ["ps", "load", "unload", "run"])
def test_without_a_running_site_the_command_to_start_it_is_shown(
    tiny, settings, monkeypatch, action
):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello"))
    files.import_file(tiny, "tiny")
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
        files.import_file(tiny, "tiny")
        code, found = doctor(capsys)
        assert code == 0
        assert level(found, "Python") == "OK"
        assert level(found, "Threads per model") == "OK"
        assert level(found, "Redis responds") == "OK"
        assert level(found, "tiny:latest") == "OK"
        assert level(found, "No inference host") == "WARN"

    def test_m6_it_shows_the_sandbox_layers_of_children(self, tiny, capsys):
        files.import_file(tiny, "tiny")
        [held] = [what for what in doctor(capsys)[1] if what.startswith("Engine, renderer")]
        assert ("Landlock (ABI" in held) is bool(landlock.version())
        assert "no new privileges" in held

    def test_m6_it_warns_of_an_engine_without_a_sandbox(self, tiny, capsys, monkeypatch):
        files.import_file(tiny, "tiny")
        weak = Protection({NETWORK: ""}, {LANDLOCK: "not enabled", SECCOMP: "refused"})
        sound = Protection({LANDLOCK: "ABI 7", SECCOMP: ""})
        model = ModelStatus("tiny", "d", "ready", protection=weak, renderer_protection=sound)
        host = HostStatus("h", "box", 1, models=(model,))
        monkeypatch.setattr(status, "ask_from_thread", lambda: [host])
        _, found = doctor(capsys)
        assert level(found, "box, engine of tiny: ") == "WARN"
        assert level(found, "Not prevented: files that its user may read, connections") == "WARN"
        assert level(found, "box, template renderer of tiny: ") == "OK"

    @pytest.mark.parametrize(("url", "expected"), [("http://box:8010", "OK"), ("", "WARN")])
    def test_a_file_on_another_host_is_no_failure(self, tiny, capsys, monkeypatch, url, expected):
        version = files.import_file(tiny, "tiny").version
        version.path.unlink()
        host = HostStatus("h", "box", 1, files=(version.digest,), files_url=url)
        monkeypatch.setattr(status, "ask_from_thread", lambda: [host])
        code, found = doctor(capsys)
        assert code == 0
        assert level(found, "tiny:latest") == expected

    @pytest.mark.parametrize("damage", ["unlink", "touch"])
    def test_a_missing_or_short_file_fails(self, tiny, capsys, damage):
        path = files.import_file(tiny, "tiny").version.path
        path.unlink()
        if damage == "touch":
            path.touch()
        code, found = doctor(capsys)
        assert code == 1
        assert level(found, "tiny:latest") == "FAIL"

    def test_it_shows_tunings_with_reasons_and_survives_a_damaged_file(
        self, tiny, data_dir, capsys
    ):
        digest = files.import_file(tiny, "tiny").version.digest
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

    def test_without_redis_it_continues(self, settings, capsys, data_dir):
        settings.REDIS_URL = "unix:///nowhere/redis.sock"
        _, found = doctor(capsys)
        assert level(found, "is not responding") in {"WARN", "FAIL"}
        assert level(found, "No model") == "WARN"

    def test_it_is_readable(self, data_dir, capsys):
        call_command("doctor")
        lines = capsys.readouterr().out.splitlines()
        assert all(line.startswith(("OK  ", "WARN", "FAIL", "      ")) for line in lines)
