"""A SuperNode that has dropped a question or an answer does not go on as if nothing were."""

from __future__ import annotations

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

import httpx
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal as supernode
from flwr.supernode.nodestate import NodeStateFactory

from fedmedlora.as_program import as_program
from fedmedlora.flower import lost
from fedmedlora.flower.bundle import own_bundle
from fedmedlora.flower.loopback import CONNECTION, free_port
from fedmedlora.flower.lost import MOST_WAIT_S, TRY_S, LostError, install_lost, patiently

RUN = 7
BROKEN = httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol")


class Node:
    """A SuperNode's own state, a question for it, and its two steps. The way to the coordinator is played."""

    def __init__(self, monkeypatch) -> None:
        for key, value in {"run_id": RUN, "task_id": 1, "node_id": 1}.items():
            monkeypatch.setattr(TaskIdentity, f"_{key}", value, raising=False)
        factory = ObjectStoreFactory()
        self.store, self.state = factory.store(), NodeStateFactory(factory).state()
        self.state.set_node_id(1)
        self.question = Message(
            RecordDict({"n": ConfigRecord({"n": 1})}), dst_node_id=1, message_type="query"
        )
        self.question.metadata.__dict__["_message_id"] = self.question.object_id

    def fetch(self, fails: str = "", error: Exception | list[Exception] = BROKEN) -> int | None:
        own = own_bundle()
        parts = get_all_nested_objects(self.question) if self.question else {}
        objects = {key: one.deflate() for key, one in parts.items()}
        run = Run.create_empty(RUN)
        run.fab_hash = own.sha256

        def get_run(run_id):
            if fails == "get_run":
                raise error
            return run

        def pull_object(run_id, key):
            if fails == "pull_object" and isinstance(error, list):
                if error:
                    raise error.pop()
            elif fails == "pull_object":
                raise error
            return objects[key]

        def confirm(run_id, key):
            if fails == "confirm_message_received":
                raise error

        return supernode._pull_and_store_message(
            state=self.state,
            object_store=self.store,
            node_config={},
            receive=lambda: self.question and (self.question, get_object_tree(self.question)),
            get_run=get_run,
            get_fab=lambda hash_, run_id: supernode.Fab(own.sha256, own.content, {}),
            pull_object=pull_object,
            confirm_message_received=confirm,
            trusted_entities=None,
        )

    def send(self, fails: str = "", error: Exception = BROKEN) -> list[str]:
        """What came of an answer that is there."""
        answer = Message(RecordDict({"n": ConfigRecord({"n": 2})}), reply_to=self.question)
        supernode._insert_message(answer, self.state, self.store)
        sent: list[str] = []

        def send(message, tree, seconds):
            if fails == "send":
                raise error
            return {tree.object_id}, "session"

        def push_object(run_id, session_id, key, content):
            if fails == "push_object":
                raise error
            sent.append(key)

        supernode._push_messages(
            state=self.state, object_store=self.store, send=send, push_object=push_object
        )
        return sent


@pytest.fixture
def node(monkeypatch) -> Node:
    monkeypatch.setattr(lost, "TRY_S", 0.0)  # once
    for step in ("_pull_and_store_message", "_push_messages"):  # Flower's again afterwards
        monkeypatch.setattr(supernode, step, getattr(supernode, step))
    install_lost()
    return Node(monkeypatch)


def test_what_is_not_lost_goes_its_way(node):
    assert node.fetch() == RUN
    assert len(node.send()) == 1


@pytest.mark.parametrize("fails", ["pull_object", "confirm_message_received"])
def test_a_question_that_could_not_be_fetched(node, fails):
    with pytest.raises(LostError, match=r"a question was lost \(ConnectError\): start this SuperNode again"):
        node.fetch(fails)
    assert node.state.get_messages_legacy(is_reply=True) == []  # Flower tells nobody


@pytest.mark.parametrize("fails", ["send", "push_object"])
def test_an_answer_that_could_not_be_sent(node, fails):
    with pytest.raises(LostError, match=r"an answer was lost \(ConnectError\)"):
        node.send(fails)


def test_a_piece_that_never_comes(node):
    """Flower tries that again by itself, and gives up in another way."""
    with pytest.raises(LostError, match=r"a question was lost"):
        node.fetch("pull_object", ObjectPullError("id", "timeout or retry limit reached"))


def test_a_question_that_flower_drops_for_reasons_of_its_own(node, monkeypatch):
    monkeypatch.setattr(node.state, "create_task", lambda **what: None)  # two of one number
    with pytest.raises(LostError, match=r"a question was lost \(not complete\)"):
        node.fetch()


def test_nothing_was_asked(node):
    node.question = None
    assert node.fetch() is None


def test_a_piece_that_comes_the_second_time(node):
    """Where SuperLink has not got it yet, Flower asks again: nothing is lost."""
    errors = [ObjectUnavailableError("id")]
    assert node.fetch("pull_object", errors) == RUN
    assert errors == []


def test_nobody_waits_for_a_run_that_has_ended(node):
    over = RunNotRunningException()
    assert node.fetch("get_run", over) is None
    assert len(node.state.get_tasks()) == 0
    assert node.send("send", over) == []


def test_a_run_that_ends_amid_its_question_leaves_no_task_behind(node):
    """Which would answer first when the next question's answer is to be sent."""
    with pytest.raises(LostError, match=r"a question was lost \(not complete\)"):
        node.fetch("pull_object", RunNotRunningException())
    assert len(node.state.get_tasks()) == 1  # as Flower leaves it, until the program ends


def test_a_connection_that_breaks_is_tried_again():
    waited: list[float] = []
    left = [BROKEN, httpx.ReadError("reset"), BROKEN]

    def reach(what: str) -> str:
        if left:
            raise left.pop()
        return what

    assert patiently(reach, waited.append, lambda: sum(waited))("it") == "it"
    assert waited == [1.0, 2.0, 4.0]


def test_for_two_minutes_and_no_longer():
    waited: list[float] = []

    def reach() -> None:
        raise BROKEN

    with pytest.raises(httpx.ConnectError):
        patiently(reach, waited.append, lambda: sum(waited))()
    assert TRY_S - MOST_WAIT_S < sum(waited) <= TRY_S
    assert max(waited) == MOST_WAIT_S


@pytest.mark.parametrize("status", [401, 500])
def test_what_the_coordinator_says_is_taken_at_its_word(status):
    request = httpx.Request("POST", "http://coordinator.example")

    def reach() -> None:
        raise httpx.HTTPStatusError("no", request=request, response=httpx.Response(status))

    waited: list[float] = []
    with pytest.raises(httpx.HTTPStatusError):
        patiently(reach, waited.append, lambda: sum(waited))()
    assert waited == []


# Nothing that this SuperNode is to fetch comes, as from a server that is just ending.
BROKEN_LINK = """
import httpx
from flwr.supernode.fleet_http_client import FleetHttpClient
from fedmedlora.flower import lost
from fedmedlora.flower.site_program import main

def broken(*args, **kwargs):
    raise httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol")

FleetHttpClient.PullObject, lost.TRY_S = broken, 3.0
main()
"""


def test_a_real_one_ends(federation, three_sites, tmp_path):
    """So that it is started again, and asked again; of its own it would wait for other questions for ever."""
    loopback = federation.loopback
    loopback.start_superlink()
    python = as_program("flower.site_program", str(loopback.python))[0]
    site = ["--site", str(three_sites / "lakeside.toml"), "--insecure", "--superlink", loopback.address]
    supernode = loopback._start("broken", python, "-P", "-c", BROKEN_LINK, *site, "--port", str(free_port()))
    study, out = three_sites / "study.toml", tmp_path / "run"
    run = loopback._start(
        "run", python, "-m", "fedmedlora", "run", str(study), "--out", str(out),
        "--carrier", "flower", "--superlink", CONNECTION,
    )  # fmt: skip
    assert supernode.wait(120) > 0, loopback.logs()
    assert "a question was lost (ConnectError)" in loopback.logs()
    assert run.poll() is None, loopback.logs()
