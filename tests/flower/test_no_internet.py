"""A whole federation where no way leads out, with one hospital behind a web proxy: from kits to a result.

Two hospitals, the coordinator and the proxy run in a network namespace with loopback alone, where Linux
counts every attempt to reach anything else. Where no such namespace can be made, they run outside of one, and
what needs it is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from no_way_out import Impossible, NoWayOut, no_way_out

from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.corpora.synthetic import synthesize
from fedmedlora.flower.loopback import free_port

LIMIT_S = 600.0
BEHIND_A_PROXY, DIRECT = "northgate", "lakeside"
KNOWN = "coordinator.invalid:8000"  # to the proxy alone: no such name can be looked up

CONSORTIUM = """\
name = "Two hospitals"
[coordinator]
address = "{known}"
other_names = ["127.0.0.1"]
listen = "127.0.0.1:{port}"
control_port = {control}
[[sites]]
name = "lakeside"
[[sites]]
name = "northgate"
test = "test.jsonl"
proxy = "http://127.0.0.1:{proxy}"
"""

STUDY = """\
name = "Two hospitals"
methods = ["fed_medlora"]
[model]
name = "model"
precision = "float32"
[adapter]
rank = 2
[tasks]
prompts = "short"
max_tokens = 4000
names = ["ner"]
[training]
rounds = 1
steps_per_round = 1
examples_per_step = 2
micro_batch = 2
max_train_examples = 4
warmup_steps = 0
[evaluation]
max_sentences = 1
bootstrap = 0
every_round = false
[[sites]]
name = "lakeside"
[[sites]]
name = "northgate"
"""


@dataclass(frozen=True)
class Ran:
    """A federation that ran in ``folder``: what was asked of its proxy, and who tried to get out (None: was
    not counted, for the reason ``uncounted``)."""

    folder: Path
    asked: tuple[str, ...]
    num_attempts: int | None
    uncounted: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory, model_folders) -> Ran:
    """By the command line, as docs/consortium.md has it."""
    folder = tmp_path_factory.mktemp("no-internet")
    ports = {"port": free_port(), "control": free_port(), "proxy": free_port()}
    shutil.copytree(model_folders["llama"], folder / "model")
    (folder / "consortium.toml").write_text(CONSORTIUM.format(known=KNOWN, **ports))
    (folder / "study.toml").write_text(STUDY)
    with contextlib.ExitStack() as stack:
        namespace, uncounted = None, ""
        try:
            namespace = stack.enter_context(no_way_out(folder))
        except Impossible as reason:
            uncounted = str(reason)
        programs = Programs(folder, () if namespace is None else namespace.prefix)
        stack.enter_context(programs.all_ended())
        carried_out(programs, ports)
        attempts = None if namespace is None else namespace.num_attempts()
    return Ran(folder, tuple(programs.said("proxy").splitlines()), attempts, uncounted)


@dataclass
class Programs:
    """Programs that run behind ``prefix`` and write what they say into ``folder``."""

    folder: Path
    prefix: tuple[str, ...]

    def __post_init__(self) -> None:
        self.running: list[subprocess.Popen] = []

    def start(self, name: str, *command: str) -> subprocess.Popen:
        """With nothing of this test's environment but where Python's modules are."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "OMP_NUM_THREADS": "1",
        }
        with (self.folder / f"{name}.txt").open("wb") as out:
            process = subprocess.Popen(
                [*self.prefix, sys.executable, *command],
                env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.running.append(process)
        return process

    def fedmedlora(self, name: str, *words: object) -> subprocess.Popen:
        """``fedmedlora WORDS``."""
        return self.start(name, "-m", "fedmedlora", *map(str, words))

    def said(self, name: str) -> str:
        """What the program ``name`` has written so far."""
        return (self.folder / f"{name}.txt").read_text(errors="replace")

    def everything(self) -> str:
        """What all of them wrote and logged, for a failure's message."""
        files = [*self.folder.glob("*.txt"), *self.folder.rglob("*.log")]
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    @contextlib.contextmanager
    def all_ended(self) -> Iterator[None]:
        """Behind the block none of them runs any more."""
        try:
            yield
        finally:
            for process in self.running:
                process.terminate()
            for process in self.running:
                try:
                    process.wait(60)
                finally:
                    process.kill()


def carried_out(programs: Programs, ports: dict[str, int]) -> None:
    """Kits, both sites and the coordinator, until the study is finished."""
    folder, kits = programs.folder, programs.folder / "kits"
    real = f"127.0.0.1:{ports['port']}"
    made = programs.fedmedlora(
        "provision", "provision", folder / "consortium.toml", "--out", kits, "--model", folder / "model"
    )
    assert made.wait(LIMIT_S) == 0, programs.everything()
    proxy = str(Path(__file__).parents[1] / "support" / "web_proxy.py")
    programs.start("proxy", proxy, str(ports["proxy"]), KNOWN, real)
    for site in (DIRECT, BEHIND_A_PROXY):
        header = {"name": site, "schema": "clinical", "synthetic": True}
        write_notes(kits / site / "train.jsonl", synthesize(site, 2, 1, "train"), header=header)
    write_notes(kits / site / "test.jsonl", synthesize(site, 1, 1, "test"), header=header)
    site_toml = kits / DIRECT / "site.toml"
    site_toml.write_text(site_toml.read_text().replace(f'"{KNOWN}"', f'"{real}"'))
    study = programs.fedmedlora(
        "coordinator", "coordinator", "start", kits / "coordinator" / "coordinator.toml",
        "--study", folder / "study.toml", "--out", folder / "run",
    )  # fmt: skip
    for site in (DIRECT, BEHIND_A_PROXY):
        programs.fedmedlora(site, "site", "start", kits / site / "site.toml")
    deadline = time.monotonic() + LIMIT_S
    while study.poll() is None:
        assert time.monotonic() < deadline, programs.everything()
        time.sleep(0.5)
    assert study.returncode == 0, programs.everything()


def test_a_federation_ends_with_its_results_and_nobody_has_looked_for_a_way_out(ran):
    results = json.loads((ran.folder / "run" / "results.json").read_text())
    (method,) = results["methods"]
    assert [[site["site"] for site in one["sites"]] for one in method["rounds"]] == [[DIRECT, BEHIND_A_PROXY]]
    assert [one["cohort"] for one in method["evaluations"]] == [BEHIND_A_PROXY]
    assert (ran.folder / "run" / "report.html").is_file()
    if ran.num_attempts is None:
        pytest.skip(ran.uncounted)
    assert ran.num_attempts == 0


def test_a_site_behind_a_proxy_takes_part_through_it_alone(ran):
    results = json.loads((ran.folder / "run" / "results.json").read_text())
    (one,) = results["methods"][0]["rounds"]
    assert one["weights"].keys() == {DIRECT, BEHIND_A_PROXY}
    assert one["weights"][BEHIND_A_PROXY] > 0
    assert f"connected to {KNOWN}" in (ran.folder / f"{BEHIND_A_PROXY}.txt").read_text()
    # Nothing but the way to the coordinator was asked of it, and its programs' own ways led not through it.
    assert set(ran.asked) == {f"CONNECT {KNOWN}"}


@pytest.fixture
def namespace(tmp_path) -> Iterator[NoWayOut]:
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(no_way_out(tmp_path))
        except Impossible as reason:
            pytest.skip(str(reason))
        yield found


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('192.0.2.1', 443))",
        "socket.create_connection(('2001:db8::1', 443))",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 4444))",
        "socket.getaddrinfo('telemetry.example', 443)",
    ],
)
def test_an_attempt_to_get_out_is_counted(namespace, attempt):
    def num_after(line: str) -> int:
        code = f"import socket\ntry:\n    {line}\nexcept OSError as error:\n    print(error)"
        subprocess.run([*namespace.prefix, sys.executable, "-c", code], check=True, capture_output=True)
        return namespace.num_attempts()

    assert num_after("socket.create_connection(('127.0.0.1', 9))") == 0  # refused, and no way out
    assert num_after("socket.getaddrinfo('localhost', 443)") == 0
    assert num_after(attempt) > 0
