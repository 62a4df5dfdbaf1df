"""The offline bundle: wheels of what is installed, and which machine may use it."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from scripts.setup import bundle, system
from scripts.setup.console import Problem
from scripts.setup.paths import REQUIREMENTS

SITE = Path(sysconfig.get_path("purelib"))


def info(name: str) -> Path:
    (found,) = SITE.glob(f"{name}-*.dist-info")
    return found


@pytest.mark.parametrize("name", ["celery", "msgspec"])
def test_a_packed_package_can_be_installed(name: str, tmp_path: Path) -> None:
    """One with programs, and one with compiled modules: the same files arrive."""
    wheel = bundle.pack(info(name), tmp_path)
    target = tmp_path / "target"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-compile", "--target", target, wheel),
        ],
        check=True,
    )
    original = {
        path.relative_to(SITE): path.read_bytes()
        for path in (SITE / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert original
    assert {name: (target / name).read_bytes() for name in original} == original
    if name == "celery":
        assert (target / "bin" / "celery").read_text().startswith("#!")


def test_programs_of_a_package_are_kept_and_generated_ones_are_not(tmp_path: Path) -> None:
    names = zipfile.ZipFile(bundle.pack(info("uv"), tmp_path)).namelist()
    assert any(name.endswith(".data/scripts/uv") for name in names)
    names = zipfile.ZipFile(bundle.pack(info("celery"), tmp_path)).namelist()
    assert not any(".data/" in name for name in names)


def test_names_of_a_lock_are_read_and_normalized() -> None:
    lock = "celery==5.7.0 \\\n    --hash=sha256:0\n# via\nPy_Thing[extra]==1 ; python_version\n"
    assert bundle.locked_names(lock) == {"celery", "py-thing"}


def test_a_build_for_this_processor_needs_its_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert bundle.features("", "avx avx2 amx_tile") == ["avx", "avx2", "amx_tile"]
    common = ["avx", "avx2", "bmi2", "f16c", "fma", "sse4_2"]
    assert bundle.features("-DGGML_NATIVE=off", "avx512f") == common
    given = "-DGGML_NATIVE:BOOL=OFF -DGGML_BMI2=off -DGGML_AVX512=on"
    assert bundle.features(given, "") == ["avx", "avx2", "avx512f", "f16c", "fma", "sse4_2"]
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert bundle.features("-DGGML_NATIVE=off", "asimd") == []


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return a small bundle for this machine."""
    (tmp_path / "packages.txt").write_text("celery==1\n")
    manifest: dict[str, object] = {
        "requirements": bundle.requirements_digest(),
        "machine": bundle.machine(),
        "libc": "2.1",
        "features": system.cpu_features().split()[:1],
    }
    write(tmp_path, manifest)
    return tmp_path


def write(folder: Path, manifest: dict[str, object]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))
    sums = [f"{bundle.sha256(folder / 'packages.txt')}  packages.txt\n"]
    (folder / "SHA256SUMS").write_text("".join(sums))


def test_a_bundle_of_this_machine_is_accepted(made: Path) -> None:
    bundle.check(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requirements": "0"}, "another version"),
        ({"libc": "99.1"}, "glibc 99.1"),
        ({"features": ["avx9000"]}, "this processor lacks avx9000"),
        ({"machine": {"system": "Linux", "processor": "m68k", "Python": "3.11"}}, "m68k"),
    ],
)
def test_a_bundle_for_another_machine_is_refused(
    made: Path, change: dict[str, object], message: str
) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    write(made, manifest | change)
    with pytest.raises(Problem, match=message):
        bundle.check(made)


def test_a_damaged_bundle_is_refused(made: Path) -> None:
    (made / "packages.txt").write_text("celery==2\n")
    with pytest.raises(Problem, match=r"damaged: .*packages\.txt"):
        bundle.check(made)
    (made / "packages.txt").unlink()
    with pytest.raises(Problem, match="damaged"):
        bundle.check(made)
    (made / "SHA256SUMS").unlink()
    with pytest.raises(Problem, match="can't be read"):
        bundle.check(made)


def test_what_is_bundled_is_the_repository() -> None:
    sources = bundle.sources()
    assert {"Makefile", "manage.py", "scripts/setup/bundle.py"} <= {*sources}
    assert not [name for name in sources if name.startswith((".venv", "build/", ".git/"))]
    assert all((REQUIREMENTS.parent / name).is_file() for name in sources)
