"""The guard around Flower's own function, over Flower's own state: what gets in, and what does not.

The network is played: what the coordinator says of a run and its bundle.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial

import pytest
from app_bundles import APP, fab, files_of, zipped

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal as supernode
from flwr.supernode.nodestate import NodeStateFactory

from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import Opened, Refusal
from fedmedlora.audit.log_file import lines_of
from fedmedlora.flower import supernode_guard
from fedmedlora.flower.bundle import own_bundle
from fedmedlora.flower.site_file import SiteFile
from fedmedlora.flower.site_log import tell_refused
from fedmedlora.flower.supernode_guard import guarded, install_guard, refuse_other_flower

OWN = own_bundle()
RUN = 7


def question(number: int) -> Message:
    """A message of the run, made as a coordinator's process makes it; a SuperNode's has no such identity."""
    before = {key: getattr(TaskIdentity, f"_{key}") for key in ("run_id", "task_id", "node_id")}
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = RUN, 1, 1
    record = RecordDict({"n": ConfigRecord({"n": number})})
    message = Message(record, dst_node_id=1, message_type="query")
    message.metadata.__dict__["_message_id"] = message.object_id
    for key, value in before.items():
        setattr(TaskIdentity, f"_{key}", value)
    return message


class Coordinator:
    """What a coordinator sends to one SuperNode; ``fab`` and ``run`` are for a test to change."""

    def __init__(self, fetch=None, tell=lambda question, words: None) -> None:
        factory = ObjectStoreFactory()
        self.store = factory.store()
        self.state = NodeStateFactory(factory).state()
        self.state.set_node_id(1)
        self.fab = Fab(OWN.sha256, OWN.content, {})
        self.run = replace(
            Run.create_empty(RUN),
            fab_id="fedmedlora/fedmedlora-app",
            fab_version="1.0.0",
            fab_hash=OWN.sha256,
            override_config={"study": "x"},
        )
        self.num_messages = 0
        self.asked_for: list[str] = []
        self.fetch = fetch or guarded(supernode._pull_and_store_message, OWN, tell)

    def ask(self) -> int | None:
        """One message of the run comes; returns what the function says."""
        self.num_messages += 1
        message = question(self.num_messages)
        objects = {key: one.deflate() for key, one in get_all_nested_objects(message).items()}

        def get_fab(fab_hash: str, run_id: int) -> Fab:
            self.asked_for.append(fab_hash)
            return self.fab

        return self.fetch(
            state=self.state,
            object_store=self.store,
            node_config={"site": "site.toml"},
            receive=lambda: (message, get_object_tree(message)),
            get_run=lambda run_id: self.run,
            get_fab=get_fab,
            pull_object=lambda run_id, key: objects[key],
            confirm_message_received=lambda run_id, key: None,
            trusted_entities=None,
        )

    def refusal(self) -> str:
        """The words of the one reply that waits to be sent; "": there is none."""
        replies = self.state.get_messages_legacy(is_reply=True)
        if not replies:
            return ""
        (reply,) = replies
        assert reply.error.code == ErrorCode.INVALID_FAB
        assert reply.metadata.run_id == RUN
        return reply.error.reason

    def num_tasks(self) -> int:
        return len(self.state.get_tasks())


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


def test_a_run_of_our_own_app_gets_in(coordinator):
    assert coordinator.ask() == RUN
    assert coordinator.refusal() == ""
    assert coordinator.num_tasks() == 1
    assert coordinator.state.get_fab(OWN.sha256).content == OWN.content
    assert coordinator.ask() == RUN
    assert coordinator.asked_for == [OWN.sha256]  # once


def test_what_is_stored_is_the_sites_own_and_not_what_came(coordinator):
    """The same app from another machine, whose zip has other bytes and another hash."""
    other = zipped(files_of(OWN.content))
    came = hashlib.sha256(other).hexdigest()
    assert came != OWN.sha256
    coordinator.fab = Fab(came, other, {})
    coordinator.run = replace(coordinator.run, fab_hash=came)
    assert coordinator.ask() == RUN
    assert coordinator.refusal() == ""
    assert coordinator.asked_for == [came]
    assert coordinator.state.get_fab(came) is None
    assert coordinator.state.get_fab(OWN.sha256).content == OWN.content
    assert coordinator.state.get_run(RUN).fab_hash == OWN.sha256


EVIL = fab({**files_of(OWN.content), "evil.py": b"import os"})
OTHER = fab({APP: files_of(OWN.content)[APP].replace(b"fedmedlora.flower.client_app:app", b"os:system")})


def sent(content: bytes, *, declared: str | None = None, hash_str: str | None = None, **run):
    """Changes to what a coordinator says: a bundle, the hash that its run declares, and the bundle's own."""
    found = hashlib.sha256(content).hexdigest()
    return Fab(found if hash_str is None else hash_str, content, {}), {"fab_hash": declared or found, **run}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (sent(EVIL), "holds 3 files"),
        (sent(OTHER), "is not that of the fedmedlora"),
        (sent(EVIL, declared=OWN.sha256), "the run declares"),  # the hash of ours on another bundle
        (sent(EVIL, declared=OWN.sha256, hash_str=OWN.sha256), "the run declares"),
        (sent(OWN.content, declared="0" * 64), "the run declares"),
        (sent(b""), "cannot be read"),
        (sent(OWN.content[:-9]), "cannot be read"),
        (sent(OWN.content, fab_id="evil/app"), "the run is of app 'evil/app' version '1.0.0'"),
        (sent(OWN.content, fab_id="../../evil"), "the run is of app '../../evil'"),
        (sent(OWN.content, fab_version="../1.0.0"), "version '../1.0.0'"),
        (sent(OWN.content, primary_task_type=TaskType.AGENT_APP), "of kind 'flwr-agentapp'"),
        (sent(OWN.content, primary_task_type=""), "of kind ''"),
        (sent(OWN.content, run_id=8), "answers for run 8 where run 7"),
    ],
    ids=range(13),
)
def test_anything_else_is_answered_and_not_stored(coordinator, caplog, told, words):
    coordinator.fab, changes = told
    coordinator.run = replace(coordinator.run, **changes)
    assert coordinator.ask() == RUN
    assert words in coordinator.refusal()
    assert words in caplog.text  # at the site, too
    assert coordinator.num_tasks() == 0
    assert coordinator.state.get_run(RUN) is None
    assert coordinator.state.get_fab(OWN.sha256) is None
    assert coordinator.state.get_fab(coordinator.fab.hash_str) is None
    # The next message of the run is looked at anew; and one of our own gets in after it.
    coordinator.ask()
    assert words in coordinator.refusal()
    coordinator.fab = Fab(OWN.sha256, OWN.content, {})
    coordinator.run = replace(Coordinator().run)
    coordinator.ask()
    assert coordinator.refusal() == ""
    assert coordinator.num_tasks() == 1


def test_a_refusal_stands_in_the_sites_log_before_it_leaves(tmp_path):
    site = SiteFile("lakeside", "train.jsonl", folder=tmp_path)
    coordinator = Coordinator(tell=partial(tell_refused, site))
    coordinator.fab, changes = sent(EVIL)
    coordinator.run = replace(coordinator.run, **changes)
    coordinator.ask()
    log = tmp_path / "state" / "audit.jsonl"
    first, entry = (read_line(line).entry for line in lines_of(log))
    assert isinstance(first, Opened)
    # Such a message is none of ours: its type is not repeated.
    assert entry == Refusal("other", "lakeside", "", coordinator.refusal())
    # Where the log takes nothing, no reason leaves, and what is told is no end of the matter.
    log.write_bytes(log.read_bytes().replace(b"lakeside", b"lakesode"))
    coordinator.ask()
    (reply,) = coordinator.state.get_messages_legacy(is_reply=True)
    assert reply.error.code not in (ErrorCode.INVALID_FAB, ErrorCode.UNKNOWN)
    assert reply.error.reason == "its audit log cannot be written; its own log says why"
    assert coordinator.num_tasks() == 0
    assert coordinator.state.get_fab(coordinator.fab.hash_str) is None


def test_without_the_guard_flower_takes_what_comes():
    """What the guard is for: of the same runs, flwr 1.41 by itself stores bundle and app for later."""
    bare = Coordinator(supernode._pull_and_store_message)
    bare.fab, changes = sent(EVIL)
    bare.run = replace(bare.run, **changes)
    bare.ask()
    assert bare.refusal() == ""
    assert bare.state.get_fab(bare.fab.hash_str).content == EVIL
    assert bare.num_tasks() == 1


def test_nothing_comes():
    coordinator = Coordinator()
    found = coordinator.fetch(
        state=coordinator.state,
        object_store=coordinator.store,
        node_config={},
        receive=lambda: None,
        get_run=None,
        get_fab=None,
        pull_object=None,
        confirm_message_received=None,
        trusted_entities=None,
    )
    assert found is None


def test_what_the_network_says_is_passed_on(coordinator):
    """A run that has ended meanwhile is no refusal."""

    def get_run(run_id):
        raise RunNotRunningException

    coordinator.run = None
    fetch = coordinator.fetch
    coordinator.fetch = lambda **arguments: fetch(**{**arguments, "get_run": get_run})
    assert coordinator.ask() is None
    assert coordinator.refusal() == ""


@pytest.fixture
def own_supernode(monkeypatch):
    """Flower's module, put back after the test."""
    monkeypatch.setattr(supernode, "_pull_and_store_message", supernode._pull_and_store_message)
    return supernode


def test_the_guard_takes_the_place_of_flowers_function(own_supernode):
    before = own_supernode._pull_and_store_message
    install_guard(OWN, lambda question, words: None)
    assert own_supernode._pull_and_store_message is not before
    # Flower's loop asks this very module for it, each time.
    assert own_supernode.start_client_internal.__globals__ is vars(own_supernode)


@pytest.mark.parametrize("version", ["1.40.0", "1.42.0", "2.0.0", "1.4", "1.410.0"])
def test_another_flower_is_refused(monkeypatch, version):
    refuse_other_flower()
    monkeypatch.setattr(supernode_guard.flwr, "__version__", version)
    with pytest.raises(ValueError, match=f"flwr {version}: another version, .* tested is flwr 1.41"):
        refuse_other_flower()


def test_a_flower_that_fetches_otherwise_is_refused(monkeypatch, own_supernode):
    monkeypatch.setattr(own_supernode, "_pull_and_store_message", lambda state, get_bundle: None)
    with pytest.raises(ValueError, match="is not what it was"):
        refuse_other_flower()
    monkeypatch.delattr(own_supernode, "_pull_and_store_message")
    with pytest.raises(ValueError, match="is not what it was"):
        refuse_other_flower()


def test_a_flower_that_does_not_use_the_function_is_refused(monkeypatch, own_supernode):
    monkeypatch.setattr(own_supernode, "start_client_internal", lambda: None)
    with pytest.raises(ValueError, match="is not used"):
        refuse_other_flower()
