"""A wheel in an environment of its own loads both components out of the unpacked Flower app.

Editable installs hide what a wheel lacks; and a bundle that brought code of its own would run instead of
the version that a hospital installed and audited.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

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
