"""The examples in `deploy/` are valid for their programs."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from django.core.management import get_commands

from chatsite.env import Environment
from chatsite.supervisor.parts import PARTS, parse

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
_NGINX = """
pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  {example}
}}
"""


def test_nginx_takes_the_examples(tmp_path: Path) -> None:
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(nginx).exists():
        pytest.skip("nginx is not installed; `make test` installs it")
    example = (ROOT / "deploy/proxy/nginx.conf").read_text()
    prefixed = (ROOT / "deploy/proxy/nginx-path-prefix.conf").read_text()
    # Without certificates, and on unprivileged ports.
    example = re.sub(r"^\s*ssl_certificate.*$", "", example, flags=re.M)
    example = example.replace("listen 443 ssl;", "listen 127.0.0.1:18443;")
    example = example.replace("listen 80;", "listen 127.0.0.1:18080;")
    before, end, after = example.rpartition("}")
    assert not after.strip()
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=tmp_path, example=f"{before}{prefixed}{end}"))
    tested = subprocess.run(
        [nginx, "-t", "-c", str(configuration)], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_start_commands_that_exist(path: Path) -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read_string(path.read_text())
    python, script, command, *options = unit["Service"]["ExecStart"].split()
    assert python.endswith("/.venv/bin/python")
    assert (ROOT / script).is_file()
    assert command in get_commands()
    assert unit["Service"]["User"] == "chatsite"
    # The name of a unit is the part that it runs.
    part = path.stem.partition("-")[2]
    assert options == (["--only", part] if part else [])
    assert not part or part in PARTS


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units_and_finds_them_hardened(path: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    # The program of the unit is installed elsewhere.
    unit = tmp_path / path.name
    unit.write_text(path.read_text().replace("/opt/chatsite/.venv/bin/python", sys.executable))
    for command in (["verify"], ["security", "--offline=true", "--threshold=25"]):
        checked = subprocess.run(
            [analyze, *command, str(unit)], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, f"{checked.stdout}\n{checked.stderr}"


def test_the_example_of_settings_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatsite import env

    text = (ROOT / "deploy/systemd/chatsite.env.example").read_text()
    given = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.M))
    assert "CHATSITE_ORIGINS" in given
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    loaded = env.load()
    assert loaded.origins == ("https://chat.example.org",)
    assert loaded.https_only
    assert [str(network) for network in loaded.trusted_proxies] == ["127.0.0.1/32"]


def test_django_has_nothing_to_say_about_the_recommended_settings(tmp_path: Path) -> None:
    text = (ROOT / "deploy/systemd/chatsite.env.example").read_text()
    recommended = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.M))
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CHATSITE_") and name != "DATABASE_URL"
    }
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={**clean, **recommended, "CHATSITE_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


KUBERNETES = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
COMPOSE = sorted((ROOT / "deploy").glob("compose*.yaml"))


def _settings_named(value: object) -> set[str]:
    """Return the names of the product's settings that are keys or texts in ``value``."""
    return set(re.findall(r"\bCHATSITE_[A-Z_]+", json.dumps(value, default=str)))


@pytest.mark.parametrize("path", [*KUBERNETES, *COMPOSE], ids=lambda path: path.name)
def test_manifests_name_settings_and_parts_that_exist(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    known = {f"CHATSITE_{name.upper()}" for name in Environment.model_fields}
    assert _settings_named(documents) <= known
    for parts in re.findall(r"\bPARTS: ([\w,]+)|name: PARTS\s+value: ([\w,]+)", path.read_text()):
        assert parse("".join(parts))


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_manifests_follow_the_schemas_of_kubernetes(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] != "Kustomization":
            assert kubernetes_validate.validate(document, "1.31", strict=True)


def test_kustomize_finds_all_manifests() -> None:
    kustomization = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())
    names = {path.name for path in KUBERNETES} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == names


def test_containers_do_without_rights_and_writable_systems() -> None:
    """In compose and in Kubernetes, whose Pod Security Standard is "restricted"."""
    for path in COMPOSE:
        for name, service in yaml.safe_load(path.read_text())["services"].items():
            if service["image"] == "chatsite":
                assert service["read_only"], name
                assert service["cap_drop"] == ["ALL"], name
    for path in KUBERNETES:
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] != "StatefulSet":
                continue
            pod = document["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"]
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in pod["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
