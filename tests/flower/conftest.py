"""A real SuperLink and real SuperNodes on loopback, and a tiny study of three sites to send over them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.flower.loopback import CONNECTION, Loopback

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


@dataclass
class Federation:
    """A SuperLink and its SuperNodes, and the command line that speaks to them."""

    loopback: Loopback

    def run(self, study: Path, out: Path, *more: str, timeout: float = 900) -> subprocess.CompletedProcess:
        """``fedmedlora run --carrier flower``, as a user would."""
        return subprocess.run(
            [str(self.loopback.python), "-m", "fedmedlora", "run", str(study), "--out", str(out),
             "--carrier", "flower", "--superlink", CONNECTION, *more],
            env=self.loopback.environment, capture_output=True, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    @contextlib.contextmanager
    def clientapps(self) -> Iterator[set[str]]:
        """Command lines of the ClientApps that ran at the sites during the block. Linux only."""
        found: set[str] = set()
        done, state = threading.Event(), str(self.loopback.folder).encode()

        def look() -> None:
            while not done.wait(0.05):
                for process in Path("/proc").glob("[0-9]*"):
                    with contextlib.suppress(OSError):
                        environ = (process / "environ").read_bytes()
                        line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                        # Its name last: what a ClientApp starts bears the ClientApp's until it is
                        # another program, and would be taken for it were the line read after that.
                        name = (process / "comm").read_text().strip()
                        if line and name == "flwr-clientapp" and state in environ:
                            found.add(line)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield found
        finally:
            done.set()
            thread.join()


BY_SITES = "validates_others = true\nshows_adapter = true"


def write_site(folder: Path, name: str, *, allows: str = BY_SITES, **more: str) -> Path:
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


@pytest.fixture(autouse=True)
def _guarded(monkeypatch):
    """Sites that are asked in this process answer as under a guarded SuperNode."""
    from fedmedlora.flower.site_program import GUARDED

    monkeypatch.setenv(GUARDED, "yes")


@pytest.fixture
def soon_given_up(monkeypatch):
    """A site that is gone is given up in a moment, and one that does not answer in three seconds."""
    from fedmedlora.flower import asking, grid_sites

    monkeypatch.setattr(grid_sites, "WORK_S", 3.0)
    monkeypatch.setattr(asking, "POLL_S", 0.02)
    monkeypatch.setattr(asking, "PRESENCE_S", 0.0)
    monkeypatch.setattr(asking, "GONE_S", 0.1)


@pytest.fixture
def federation(tmp_path) -> Iterator[Federation]:
    """Nothing runs yet; all that is started ends with the test."""
    extra = {
        "OMP_NUM_THREADS": "1",  # as in this process: sums in another order are other numbers
        "FEDMEDLORA_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    with Loopback(tmp_path / "flower", extra=extra) as loopback:
        yield Federation(loopback)


class LocalGrid:
    """Flower's grid without its network: real messages, the real ClientApp, called in this process.

    ``fault`` is given the replies that are about to arrive, as (question's id, reply), and gives back what
    does arrive: that is where a carrier loses, repeats or mixes up what it carries.
    """

    def __init__(self, site_files) -> None:
        from flwr.supercore.task_identity import TaskIdentity

        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1  # as Flower's processes do
        self.node_config = {number: {"site": str(path)} for number, path in enumerate(site_files, start=1)}
        self.registered: dict[int, str] = {}  # node -> the site that its key was registered for
        self.connected_at: dict[int, str] = {}  # node -> when its SuperNode connected last
        self.waiting: list = []
        self.sent: list = []
        self.fault = lambda replies: replies

    def get_node_ids(self):
        return list(self.node_config)

    def get_nodes(self):
        from flwr.proto.node_pb2 import NodeInfo

        return [
            NodeInfo(
                node_id=node,
                name=self.registered.get(node, ""),
                last_activated_at=self.connected_at.get(node, "today"),
            )
            for node in self.node_config
        ]

    def push_messages(self, messages):
        from flwr.app import Context, Message, RecordDict

        from fedmedlora.flower.client_app import app

        for message in messages:
            node = message.metadata.dst_node_id
            message.metadata.__dict__["_message_id"] = f"question {len(self.sent)}"
            self.sent.append(message)
            if node in self.node_config:  # else it is gone, and the question waits for it
                context = Context(1, node, self.node_config[node], RecordDict(), {})
                reply = app(message, context)
                assert isinstance(reply, Message)
                self.waiting.append([message.metadata.message_id, reply])
            yield message.metadata.message_id

    def pull_messages(self, ids):
        found = [reply for reply in self.waiting if reply[0] in ids]
        self.waiting = [reply for reply in self.waiting if reply[0] not in ids]
        for question, reply in self.fault(found):
            reply.metadata.__dict__["_reply_to_message_id"] = question
            yield reply


@pytest.fixture
def local_grid(three_sites, one_thread, grid_over):
    """The three sites of ``three_sites`` behind a grid without a network."""
    return grid_over([three_sites / f"{site}.toml" for site in SITES])


@pytest.fixture(scope="session")
def grid_over():
    """``grid_over(site_files)``: those sites behind a grid without a network."""
    return LocalGrid


@pytest.fixture
def two_hospitals():
    """``two_hospitals(other, rounds)`` -> the text of a study of lakeside and another site."""

    def text(other: str = "northgate", rounds: int = 2) -> str:
        sites = "".join(f'[[sites]]\nname = "{name}"\n' for name in ("lakeside", other))
        head = 'name = "Two hospitals"\nmethods = ["fed_medlora"]\n'
        return f"{head}[training]\nrounds = {rounds}\n{sites}"

    return text
