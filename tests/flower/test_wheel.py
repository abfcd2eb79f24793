"""A wheel in an environment of its own loads both components out of the unpacked Flower app.

Editable installs hide what a wheel lacks; and a bundle that brought code of its own would run instead of
the version that a hospital installed and audited.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from no_way_out import Impossible, no_way_out

from fedmedlora import __version__
from fedmedlora.cli import main
from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.corpora.synthetic import synthesize
from fedmedlora.flower.loopback import free_port

ROOT = Path(__file__).parents[2]

LOAD = """
import json, sys
from pathlib import Path
from flwr.cli.build import build_fab_from_disk
from flwr.cli.install import install_from_fab
from flwr.common.config import get_metadata_from_config, get_project_config, get_project_dir
from flwr.clientapp.utils import get_load_client_app_fn
from flwr.supercore.object_ref import load_app
import hashlib
from fedmedlora.flower.submit import app_folder

fab = build_fab_from_disk(app_folder())
Path("app.fab").write_bytes(fab)
install_from_fab(fab, skip_prompt=True)
fab_hash = hashlib.sha256(fab).hexdigest()
fab_id, version = get_metadata_from_config(get_project_config(app_folder()))
folder = get_project_dir(fab_id, version, fab_hash)
client = get_load_client_app_fn("", None, True)(fab_id, version, fab_hash)
server = load_app(
    get_project_config(folder)["tool"]["flwr"]["app"]["components"]["serverapp"], ImportError, folder
)
import fedmedlora, fedmedlora.flower.client_app, fedmedlora.flower.server_app
print(json.dumps({
    "unpacked": sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()),
    "fedmedlora": fedmedlora.__file__,
    "client": client is fedmedlora.flower.client_app.app,
    "server": server is fedmedlora.flower.server_app.app,
    "client_file": fedmedlora.flower.client_app.__file__,
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of a new environment with the wheel in it; what it needs is found in this one.

    A folder that a ``.pth`` file names is searched, but its own ``.pth`` files are not read: the editable
    install of this environment stays out of sight.
    """
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.check_output([str(python), "-c", code], text=True).strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "needs.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def test_both_components_load_from_the_wheel(installed, tmp_path):
    environment = {
        "PATH": os.environ["PATH"],
        "FLWR_HOME": str(tmp_path / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    done = subprocess.run(
        [str(installed), "-c", LOAD], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    here = str(installed.parents[1])
    assert found["fedmedlora"].startswith(here)
    assert found["client_file"].startswith(here)
    assert found["client"]
    assert found["server"]
    # The bundle is one file and Flower's own list of contents: nothing in it can run.
    assert [name for name in found["unpacked"] if not name.startswith(".info")] == ["pyproject.toml"]
    with zipfile.ZipFile(tmp_path / "app.fab") as fab:
        assert sorted(fab.namelist()) == [".info/CONTENT", "pyproject.toml"]


def test_the_wheel_holds_what_is_no_code(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for needed in (
        "fedmedlora/flower/app/pyproject.toml",
        "fedmedlora/provision/templates/site-README.md",
        "fedmedlora/corpora/mappings/chia.toml",
        "fedmedlora/tasks/prompts/short/ner.txt",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith("tests")]


@pytest.fixture
def kit(wheel, model_folders, tmp_path) -> Path:
    """A site's kit with a wheelhouse, which holds the wheel, and a model; its notes are there."""
    house, pythons = tmp_path / "house", tmp_path / "bin"
    for folder in (house, pythons):
        folder.mkdir()
    shutil.copy(wheel, house)
    (tmp_path / "consortium.toml").write_text(
        f'name = "One hospital"\n[coordinator]\naddress = "127.0.0.1:{free_port()}"\n'
        '[[sites]]\nname = "lakeside"\n'
    )
    more = ["--wheelhouse", str(house), "--model", str(model_folders["llama"])]
    assert main(["provision", str(tmp_path / "consortium.toml"), "--out", str(tmp_path / "kits"), *more]) == 0
    header = {"name": "lakeside", "schema": "clinical", "synthetic": True}
    notes = synthesize("lakeside", 2, 1, "train")
    write_notes(tmp_path / "kits" / "lakeside" / "train.jsonl", notes, header=header)
    return tmp_path / "kits" / "lakeside"


def needs_without_us(folder: Path) -> Path:
    """``folder``, with all that is installed here but fedmedlora: what a whole wheelhouse would bring."""
    folder.mkdir()
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "fedmedlora" not in path.name and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


def test_a_kit_installs_by_the_commands_of_its_page_where_no_way_leads_out(kit, tmp_path):
    """Wheels of torch and the like are not at hand: they are found as installed already."""
    page = (kit / "README.md").read_text()
    commands = re.search(r"## Join\n.*?```\n(.*?)```", page, re.DOTALL).group(1).splitlines()
    make, install, check, start = commands
    assert start == "sh start.sh"
    python = tmp_path / "bin" / make.split()[0]  # as the page calls it, and whatever runs here
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    needs = needs_without_us(tmp_path / "needs")
    found = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    script = f"""set -e
cd "{kit}"
{make}
here=$(.venv/bin/python -c "{found}")
rm -rf "$here"/setuptools*  # Python's own, too old for torch: a wheelhouse holds a newer one
echo "{needs}" > "$here/needs.pth"
{install}
{check} || echo "status $?"
"""
    environment = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path / "home")}
    with contextlib.ExitStack() as stack:
        namespace = None
        with contextlib.suppress(Impossible):
            namespace = stack.enter_context(no_way_out(tmp_path))
        done = subprocess.run(
            [*(() if namespace is None else namespace.prefix), "sh", "-c", script],
            env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert namespace is None or namespace.num_attempts() == 0
    said = done.stdout + done.stderr
    (installed,) = (kit / ".venv").glob("lib/python*/site-packages/fedmedlora-*.dist-info")
    assert installed.name == f"fedmedlora-{__version__}.dist-info"
    failed = re.findall(r"^FAILED +(\w+)", said, re.MULTILINE)
    # Flower's programs lie where Flower is installed, and no coordinator is there.
    assert failed == ["programs", "address"], said
    assert re.search(rf"^ok +versions +.*\bfedmedlora {re.escape(__version__)},", said, re.MULTILINE)
    assert re.search(r"^ok +base model +model, ", said, re.MULTILINE)
    assert said.endswith("status 1\n")
