"""What passes through the grid, told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from told_live import made, state_of

from fedmedlora.flower import live
from fedmedlora.flower.live_grid import LiveGrid
from fedmedlora.flower.messages import DESCRIBE, FAILED, NOT_NOW, TRAIN, Letter
from fedmedlora.live_record import LiveRecord


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.0)
    for name in ("run_id", "task_id", "node_id"):  # as Flower's processes have them
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)


class OneNode:
    """A grid with a node that gives the answers it was made with, in turn."""

    def __init__(self, *answers) -> None:
        self.answers, self.asked, self.name = list(answers), [], ""

    def get_node_ids(self):
        return [7]

    def get_nodes(self):
        return [SimpleNamespace(node_id=7, name=self.name)]

    def push_messages(self, messages):
        self.asked += messages
        yield from (f"question {len(self.asked)}" for _ in messages)

    def pull_messages(self, ids):
        for id_ in ids:
            answer = self.answers.pop(0)
            asked = self.asked[-1]
            reply = (
                Message(answer, reply_to=asked)
                if isinstance(answer, Error)
                else Message(content=answer, reply_to=asked)
            )
            reply.metadata.__dict__["_reply_to_message_id"] = id_
            yield reply


def exchanged(grid: LiveGrid, kind: str, letter: Letter) -> list[Message]:
    message = Message(content=letter.to_records(), dst_node_id=7, message_type=kind, ttl=9.0, group_id="1")
    message.metadata.__dict__["_message_id"] = "a question"
    return list(grid.pull_messages(list(grid.push_messages([message]))))


def test_the_grid_tells_who_is_there_and_what_it_carries():
    question = Letter({"terms": "…"}, {"adapter": b"12345"})
    answer = Letter({"refused": ""}, {"update": b"123"})
    grid = OneNode(
        Letter({"name": "stonebridge", "refused": ""}).to_records(),
        answer.to_records(),
        Letter({"refused": "no"}).to_records(),
        Letter({"refused": "", NOT_NOW: "from 18:00 on\n", "opens_in_s": 9.0}).to_records(),
        Error(code=2, reason="killed"),
        RecordDict({}),  # of another program
        Letter({"name": "lakeside", "refused": "and it is not one"}).to_records(),
    )
    kept: list[LiveRecord] = []
    with made(kept) as told:
        over = LiveGrid(grid, told)
        assert over.get_node_ids() == [7]
        assert state_of(kept)[2] is False  # nobody knows who that is yet
        assert len(exchanged(over, DESCRIBE, Letter({}))) == 1
        assert state_of(kept) == ("idle", "", True)
        exchanged(over, TRAIN, question)
        assert state_of(kept) == ("answered", "", True)
        # {"version":4,"terms":"\u2026"} and five bytes; {"version":4,"refused":""} and three
        assert kept[-1].sites[2].download_bytes == 30 + 5
        assert kept[-1].sites[2].upload_bytes == 26 + 3
        exchanged(over, TRAIN, question)
        assert state_of(kept) == ("refused", "no", True)
        exchanged(over, TRAIN, question)
        assert state_of(kept) == ("put off", "from 18:00 on ", True)
        exchanged(over, TRAIN, question)
        assert state_of(kept) == ("absent", "its program failed or was lost", True)
        exchanged(over, TRAIN, question)
        assert state_of(kept) == ("answered", "", True)  # whether it can be read is for others to say
        exchanged(over, DESCRIBE, Letter({}))
        assert state_of(kept) == ("answered", "", True)  # what it is, is no question of the round
        assert state_of(kept, "lakeside")[2] is False


def test_who_has_which_key_is_known_behind_it():
    """``roll.py`` asks this grid whose key a node has, and must not be told less than the inner one knows."""
    grid = OneNode(Letter({"name": "stonebridge", "refused": ""}).to_records())
    grid.name = "lakeside"
    kept: list[LiveRecord] = []
    with made(kept) as told:
        over = LiveGrid(grid, told)
        assert [(one.node_id, one.name) for one in over.get_nodes()] == [(7, "lakeside")]
        exchanged(over, DESCRIBE, Letter({}))  # it has lakeside's key and calls itself by another's name
        over.get_node_ids()
        # The connection is that of lakeside's key; stonebridge's name proves nothing.
        assert {site.name for site in kept[-1].sites if site.is_connected} == {"lakeside"}


def test_a_site_whose_program_fails_at_the_first_question_is_connected_and_says_so():
    failed = Letter({"refused": "", FAILED: "it failed with ValueError"}).to_records()
    well = Letter({"name": "lakeside", "refused": ""}).to_records()
    grid = OneNode(Error(code=2, reason="killed"), well, failed, well)
    grid.name = "lakeside"
    kept: list[LiveRecord] = []
    with made(kept) as told:
        over = LiveGrid(grid, told)
        over.get_node_ids()
        over.get_nodes()
        assert state_of(kept, "lakeside") == ("idle", "", True)
        for _ in range(2):
            exchanged(over, DESCRIBE, Letter({}))
            assert state_of(kept, "lakeside") == ("absent", "its program failed or was lost", True)
            exchanged(over, DESCRIBE, Letter({}))
            assert state_of(kept, "lakeside") == ("idle", "", True)


def test_nothing_of_a_grid_is_left_to_its_base_class():
    """What Flower's ``Grid`` answers by itself, it answers knowing nothing."""
    public = {name for name, value in vars(Grid).items() if not name.startswith("_") and value is not None}
    assert public <= set(vars(LiveGrid))
