"""What the wheel and the sdist contain, and what installing them does to an environment."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import couchdal

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
# It installs a package `dal` too.
OTHER = "django-autocomplete-light"
ADD_TASK = (
    "from {module} import CouchDAL; d = CouchDAL('memory'); d.put_document('a', {{'n': 1}}); "
    "print(d.get_document('a')['n'])"
)


def build(kind: str, folder: Path) -> Path:
    """Build a distribution of the checkout with the installed hatchling, and return its file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tmp_path_factory.mktemp("sdist"))


def test_wheel_holds_one_package_and_one_module(wheel: Path) -> None:
    # With a folder `dal/`, removing couchdal would delete files of the other distribution.
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name == f"couchdal-{couchdal.__version__}-py3-none-any.whl"
    tops = {name.partition("/")[0] for name in names}
    (info,) = {top for top in tops if top.endswith(".dist-info")}
    assert tops == {"couchdal", "dal.py", info}
    assert {"couchdal/py.typed", f"{info}/licenses/LICENSE", f"{info}/licenses/LICENSE-unicode"} <= {*names}


def test_wheel_holds_every_file_of_the_source(wheel: Path) -> None:
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "egg-info" not in str(path)
    }
    assert files <= {*zipfile.ZipFile(wheel).namelist()}


def test_sdist_holds_every_file_of_the_repository(sdist: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    assert wanted
    assert not {*wanted} - held


def test_description_for_a_package_index_has_no_relative_links(wheel: Path) -> None:
    # The index shows it without the files around it.
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    text = archive.read(metadata).decode()
    assert README.splitlines()[0] in text
    targets = re.findall(r"\]\(([^)\s]+)|(?:src|href)=[\"']([^\"']+)", text)
    assert not [target for found in targets if (target := "".join(found)) and not re.match(r"https?://|#", target)]


def test_install_commands_of_the_readme_work_in_a_checkout() -> None:
    commands = re.findall(r"^ *(pip install .*?)(?: +#.*)?$", README, re.MULTILINE)
    assert commands
    for command in commands:
        assert re.fullmatch(r"pip install (\.|'\.\[[a-z,]+\]')", command), command


class Environment:
    """A real virtual environment."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self._python = folder / "bin/python"

    def pip(self, *arguments: str) -> None:
        subprocess.run([self._python, "-m", "pip", "-qq", *arguments], check=True, timeout=600)

    def run(self, code: str) -> str:
        # Without PYTHONPATH and the current folder: only what is installed.
        command = [self._python, "-I", "-c", code]
        ended = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        return ended.stdout.strip() if ended.returncode == 0 else ended.stderr.splitlines()[-1]

    def uses_couchdal_as(self, module: str) -> bool:
        return self.run(ADD_TASK.format(module=module)) == "1"

    def has_the_other(self) -> bool:
        """Return whether the other package `dal` is imported, and works."""
        setup = (
            "import django; from django.conf import settings; settings.configure(INSTALLED_APPS=['dal', 'dal_select2'])"
        )
        use = "django.setup(); import dal.autocomplete; print(dal.autocomplete.Select2.__name__)"
        return self.run(f"{setup}; {use}") == "Select2"


@pytest.fixture
def make_environment(tmp_path: Path) -> Callable[[], Environment]:
    return lambda: Environment(tmp_path / "venv")


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="the paths of an environment differ on Windows")
@pytest.mark.parametrize("first", ["couchdal", OTHER])
@pytest.mark.parametrize("removed", ["couchdal", OTHER])
def test_both_packages_named_dal_can_be_installed(
    first: str, removed: str, wheel: Path, make_environment: Callable[[], Environment]
) -> None:
    environment = make_environment()
    sources = {"couchdal": str(wheel), OTHER: OTHER}
    environment.pip("install", sources.pop(first))
    if first == "couchdal":
        assert environment.uses_couchdal_as("couchdal")
        assert environment.uses_couchdal_as("dal")
    else:
        assert environment.has_the_other()

    environment.pip("install", *sources.values())
    assert environment.uses_couchdal_as("couchdal")
    # Python prefers a package's folder to a module's file.
    assert environment.has_the_other()
    assert "cannot import name 'CouchDAL' from 'dal'" in environment.run("from dal import CouchDAL")

    environment.pip("uninstall", "--yes", removed)
    if removed == "couchdal":
        assert environment.has_the_other()
        assert "No module named 'couchdal'" in environment.run("import couchdal")
    else:
        assert environment.uses_couchdal_as("couchdal")
        assert environment.uses_couchdal_as("dal")


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="the paths of an environment differ on Windows")
@pytest.mark.parametrize("extras", ["", "[server,views]"])
def test_checkout_can_be_installed(extras: str, make_environment: Callable[[], Environment]) -> None:
    environment = make_environment()
    environment.pip("install", f"{ROOT}{extras}")
    assert environment.uses_couchdal_as("couchdal")
    assert environment.uses_couchdal_as("dal")
    views = environment.run("import quickjs, uvicorn; print('there')")
    assert (views == "there") == bool(extras)


@pytest.mark.soak
def test_sdist_holds_what_its_tests_need(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    modules = ("docs", "docs_pages", "layout", "public_api", "tidy")
    quick = [*(f"tests/test_{name}.py" for name in modules), "tests/emulator", "tests/packaging", "tests/parity"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-k", "not (http- or socket- or proxy-)", *quick],
        cwd=folder, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder / "src")},
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-3000:]
