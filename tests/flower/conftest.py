"""A real SuperLink and real SuperNodes on loopback, and a tiny study of three sites to send over them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

SITES = ("lakeside", "northgate", "stonebridge")

STUDY = """\
name = "Three sites"
seed = 3
methods = ["fed_medlora_plus"]
[model]
name = "model"
precision = "float32"
[adapter]
rank = 2
alpha = 4.0
dropout = 0.1
[tasks]
prompts = "short"
max_tokens = 4000
[training]
rounds = 2
steps_per_round = 2
examples_per_step = 4
micro_batch = 2
learning_rate = 1e-2
warmup_steps = 0
max_train_examples = 12
[rules.fed_medlora_plus]
tau = 0.05
[validation]
by = "sites"
held_out_sentences = 8
[evaluation]
max_sentences = 2
bootstrap = 20
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Federation:
    """A SuperLink and its SuperNodes. ``python``: whose installed package they run."""

    folder: Path
    python: Path = Path(sys.executable)
    processes: list[subprocess.Popen] = field(default_factory=list)
    address: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            # SuperLink and SuperNode look for their own helpers there.
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
            "FLWR_HOME": str(self.folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FEDMEDLORA_STATE": str(self.folder / "state"),
            "FEDMEDLORA_CACHE": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",  # as in this process: sums in another order are other numbers
            "HF_HUB_OFFLINE": "1",
        }

    def start(self, name: str, *arguments: str) -> subprocess.Popen:
        with (self.folder / f"{len(self.processes)}-{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(self.python.parent / name), *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_superlink(self) -> None:
        from fedmedlora.flower.simulation import wait_until_up

        self.address = f"127.0.0.1:{free_port()}"
        (self.folder / "flwr").mkdir(exist_ok=True)
        (self.folder / "flwr" / "config.toml").write_text(
            f'[superlink]\ndefault = "test"\n[superlink.test]\naddress = "{self.address}"\ninsecure = true\n'
        )
        host, port = self.address.split(":")
        process = self.start(
            "flower-superlink", "--insecure", "--host", host, "--port", port,
            "--disable-runtime-dependency-installation", "--database", str(self.folder / "superlink.db"),
        )  # fmt: skip
        wait_until_up(self.address, process)

    def start_supernode(self, site_file: Path) -> subprocess.Popen:
        return self.start(
            "flower-supernode", "--insecure", "--superlink", self.address, "--port", str(free_port()),
            "--node-config", f'site="{site_file}"',
        )  # fmt: skip

    def run(self, study: Path, out: Path, *more: str, timeout: float = 400) -> subprocess.CompletedProcess:
        """``fedmedlora run --carrier flower``, as a user would."""
        return subprocess.run(
            [str(self.python), "-m", "fedmedlora", "run", str(study), "--out", str(out),
             "--carrier", "flower", "--superlink", "test", *more],
            env=self.environment, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def logs(self) -> str:
        """What all programs wrote; for a failed test's message."""
        return "\n".join(
            f"--- {p.name}\n{p.read_text(errors='replace')}" for p in sorted(self.folder.glob("*.log"))
        )

    def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def write_site(folder: Path, name: str, *, allows: str = "validates_others = true", **more: str) -> Path:
    """A ``site.toml`` for ``name`` beside its notes."""
    lines = {"name": name, "train": f"{name}-train.jsonl", "test": f"{name}-test.jsonl",
             "state": f"state-{name}", **more}  # fmt: skip
    path = folder / f"{name}.toml"
    keys = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
    path.write_text(f'{keys}[model]\nname = "model"\nprecision = "float32"\n[allows]\n{allows}\n')
    return path


@pytest.fixture(scope="session")
def three_sites(tmp_path_factory, model_folders, marked) -> Path:
    """``study.toml`` with its model and the notes of three synthetic sites, and a site.toml for each."""
    from dataclasses import replace

    from fedmedlora.corpora.jsonl import write_notes
    from fedmedlora.corpora.synthetic import synthesize

    folder = tmp_path_factory.mktemp("three-sites")
    shutil.copytree(model_folders["llama"], folder / "model")
    text = STUDY
    for site in SITES:
        for part, num in (("train", 4), ("test", 1)):
            notes = [replace(n, text=f"{n.text}\n{marked}\n") for n in synthesize(site, num, 1, part)]
            header = {"name": site, "schema": "clinical", "synthetic": True}
            write_notes(folder / f"{site}-{part}.jsonl", notes, header=header)
        text += f'[[sites]]\nname = "{site}"\ntrain = "{site}-train.jsonl"\ntest = "{site}-test.jsonl"\n'
        write_site(folder, site, turn="turn.lock")
    (folder / "study.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def federation(tmp_path) -> Iterator[Federation]:
    """Nothing runs yet; all that is started ends with the test."""
    made = Federation(tmp_path)
    yield made
    made.stop()
