"""A hostile coordinator, for real: a SuperLink sends an app of the right name with a module of its own.

The module leaves a mark when it is imported. Measured with flwr 1.41: under Flower's own ``flower-supernode``
the mark is there; under ``site_program.py`` it is not, and the coordinator reads why.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from fedmedlora.flower import submit
from fedmedlora.flower.loopback import CONNECTION, free_port
from fedmedlora.flower.submit import Target, app_folder, run_at

EVIL = """\
import os
from pathlib import Path

Path(os.environ["MARKS"], str(os.getpid())).write_text("imported")

from flwr.clientapp import ClientApp

app = ClientApp()
"""


@pytest.fixture
def hostile_app(tmp_path, monkeypatch) -> Path:
    """From now on a study is sent with this app: ours, but the sites are to run a module of its own."""
    folder = tmp_path / "app"
    shutil.copytree(app_folder(), folder)
    text = (folder / "pyproject.toml").read_text()
    text = text.replace('clientapp = "fedmedlora.flower.client_app:app"', 'clientapp = "evil:app"')
    text = text.replace('["pyproject.toml"]', '["pyproject.toml", "evil.py"]')
    (folder / "pyproject.toml").write_text(text)
    (folder / "evil.py").write_text(EVIL)
    monkeypatch.setattr(submit, "app_folder", lambda: folder)
    return folder


def test_code_that_comes_with_a_study_does_not_run(federation, hostile_app, three_sites, tmp_path):
    loopback = federation.loopback
    marks = tmp_path / "marks"
    marks.mkdir()
    loopback.extra = {**loopback.extra, "MARKS": str(marks)}
    study = three_sites / "study.toml"
    loopback.start_superlink()
    target = Target(CONNECTION, loopback.environment)

    def run(out: str) -> str:
        """Why the study ended, as whoever started it reads it."""
        with pytest.raises(ValueError, match=r".") as caught:
            run_at(study, tmp_path / out, target, False, 60.0, ("run",), lambda line: None)
        return str(caught.value)

    site = three_sites / "lakeside.toml"
    bare = loopback._start(
        "bare",
        loopback._program("flower-supernode"),
        "--insecure",
        "--superlink",
        loopback.address,
        "--port",
        str(free_port()),
        "--node-config",
        f'site="{site}"',
    )
    said = run("bare")
    num_run = len(list(marks.iterdir()))
    assert num_run, said + loopback.logs()
    assert "its program failed or was lost" in said  # it has answered nothing, but it has run
    os.killpg(bare.pid, signal.SIGTERM)
    bare.wait(timeout=20)

    guarded = loopback.start_supernode(site)
    said = run("guarded")
    assert "a site does not take what the run sent it: the app bundle holds 3 files" in said, loopback.logs()
    time.sleep(2.0)  # longer than a process that was started by mistake takes to the import
    assert len(list(marks.iterdir())) == num_run
    assert guarded.poll() is None  # it goes on waiting for studies
    log = next(loopback.folder.glob("*-supernode.log")).read_text()
    assert "refused: the app bundle holds 3 files" in log
    states = (three_sites / "state-lakeside", loopback.folder)  # of the site and of the coordinator
    told = [path.read_text() for folder in states for path in folder.rglob("audit.jsonl")]
    assert sum("the app bundle holds 3 files" in text for text in told) == 2
    assert list(three_sites.glob("state-lakeside/flower-*"))  # where it would have been unpacked
    assert not list(three_sites.rglob("evil*"))
