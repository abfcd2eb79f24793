"""``live.json``: of a whole run with a site that fails, through the real ServerApp; and its parts by hand."""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from flwr.app import Context, Error, Message, RecordDict

from fedmedlora.flower import asking, grid_sites, live, server_app
from fedmedlora.flower.live import Live, live_in
from fedmedlora.flower.live_grid import LiveGrid, size
from fedmedlora.flower.live_sites import LiveProgress, LiveSites
from fedmedlora.flower.messages import DESCRIBE, TRAIN, Letter
from fedmedlora.flower.state import Submission, write_submission
from fedmedlora.live_record import LiveRecord, read_live, write_live
from fedmedlora.progress import Silent
from fedmedlora.rounds import Absent
from fedmedlora.sites import Errand
from fedmedlora.watch.reading import find, read_status

SITES = ("lakeside", "northgate", "stonebridge")
BOTH = ("lakeside", "stonebridge")  # of the whole run
STONEBRIDGE = 2  # its node in it


def made(kept: list[LiveRecord], before: LiveRecord | None = None) -> Live:
    """A ``Live`` of three sites whose records go into ``kept``, each as it changes."""
    return Live("A study", SITES, 2, kept.append, before)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.0)


def state_of(kept: list[LiveRecord], name: str = "stonebridge") -> tuple[str, str, bool]:
    site = next(one for one in kept[-1].sites if one.name == name)
    return site.state, site.reason, site.is_connected


# --- a whole run ----------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch) -> list[LiveRecord]:
    """Every record that was written."""
    kept: list[LiveRecord] = []

    def write(folder: Path, record: LiveRecord) -> None:
        write_live(folder, record)
        kept.append(read_live(folder))

    monkeypatch.setattr(live, "write_live", write)
    return kept


@pytest.fixture
def submitted(three_sites, tmp_path, monkeypatch):
    """``submitted(resume)``: a study of two rounds that needs two of its sites, put before the ServerApp."""
    monkeypatch.setattr(grid_sites, "WORK_S", 3.0)
    monkeypatch.setattr(asking, "POLL_S", 0.02)
    monkeypatch.setattr(asking, "PRESENCE_S", 0.0)
    monkeypatch.setattr(server_app, "keep_freed_memory", lambda: None)
    monkeypatch.setenv("FEDMEDLORA_STATE", str(tmp_path / "state"))
    text = (three_sites / "study.toml").read_text()
    settings = {"max_sentences": "1\nevery_round = false", "bootstrap": 0, "steps_per_round": 1,
                "held_out_sentences": 2, "max_tokens": '4000\nnames = ["ner"]'}  # fmt: skip
    for key, little in settings.items():
        text = re.sub(rf"^{key} = .*", f"{key} = {little}", text, flags=re.M)
    text = text.replace("[validation]", "[rounds]\nquorum = 0.5\nattempts = 1\n[validation]")
    northgate = re.search(r'\[\[sites\]\]\nname = "northgate"\n.*\n.*\n', text).group()
    path = three_sites / "watched.toml"
    path.write_text(text.replace(northgate, ""))
    mask = os.umask(0o022)

    def submit(resume: bool = False) -> Path:
        found = Submission("watched", path, tmp_path / "out", resume, 0.3, ("run",))
        return write_submission(tmp_path / "state", found)

    yield submit
    os.umask(mask)


@pytest.fixture
def two_sites(three_sites, grid_over, one_thread):
    """A grid with lakeside, and stonebridge that keeps no test notes."""
    quiet = three_sites / "untested.toml"
    text = (three_sites / "stonebridge.toml").read_text()
    quiet.write_text(text.replace('test = "stonebridge-test.jsonl"\n', ""))
    return grid_over([three_sites / "lakeside.toml", quiet])


def run_app(grid) -> None:
    server_app.main(grid, Context(1, 0, {}, RecordDict(), {"study": "watched"}))


def failing_once(grid):
    """stonebridge's first update becomes Flower's error for a program that ended."""
    failed = []

    def fault(replies):
        found = []
        for question, reply in replies:
            is_update = reply.metadata.message_type == "train"
            if is_update and reply.metadata.src_node_id == STONEBRIDGE and not failed:
                failed.append(True)
                asked = next(m for m in grid.sent if m.metadata.message_id == question)
                reply = Message(Error(code=2, reason="killed"), reply_to=asked)
            found.append([question, reply])
        return found

    return fault


def test_a_run_with_an_absent_site(two_sites, submitted, told, tmp_path, marked):
    two_sites.fault = failing_once(two_sites)
    folder = submitted()
    run_app(two_sites)
    stages = [key for key, _ in itertools.groupby((r.stage, r.method, r.round_num) for r in told)]
    of_round = ["training", "aggregating", "validating", "aggregating"]
    assert stages == [
        ("waiting for sites", "", 0),
        *((stage, "fed_medlora_plus", 1) for stage in of_round),
        *((stage, "fed_medlora_plus", 2) for stage in of_round),
        ("reading tests", "fed_medlora_plus", 2),
        ("finished", "fed_medlora_plus", 2),
    ]
    in_first = [r for r in told if (r.stage, r.round_num) == ("training", 1)]
    states = [key for key, _ in itertools.groupby(r.sites[1].state for r in in_first)]
    assert states == ["idle", "asked", "absent"]
    assert in_first[-1].sites[1].reason == "its program failed or was lost, 1 times"
    assert [site.state for site in in_first[-1].sites] == ["answered", "absent"]
    assert all(site.is_connected for site in in_first[-1].sites)
    second = [r for r in told if (r.stage, r.round_num) == ("training", 2)]
    assert [site.state for site in second[-1].sites] == ["answered"] * 2
    assert told[0].sites[0].state == "not connected"
    assert told[0].sites[0].seen_utc == ""

    # What was sent is what the grid carried, and more than the adapters alone.
    last = told[-1]
    for node, site in enumerate(last.sites, start=1):
        sent = [m for m in two_sites.sent if m.metadata.dst_node_id == node]
        own = [m for m in sent if m.metadata.message_type != DESCRIBE]
        assert site.download_bytes == sum(size(m.content) for m in own)
        assert site.num_refusals == 0
    rounds = [json.loads(p.read_text()) for p in sorted((tmp_path / "out").rglob("round-*.json"))]
    trained = sum(s["upload_bytes"] for one in rounds for s in one["sites"] if s["site"] == "lakeside")
    assert last.sites[0].upload_bytes > trained
    assert last.sites[1].upload_bytes < last.sites[0].upload_bytes

    # Whoever watches sees the same.
    status = read_status(find(tmp_path / "state"))
    assert (status.stage, status.num_done, status.num_planned, status.is_alive) == ("finished", 2, 2, False)
    assert [(a.site, a.reason) for a in status.rounds[0].absent] == [
        ("stonebridge", "its program failed or was lost, 1 times")
    ]
    assert [site.num_absences for site in status.sites] == [0, 1]
    assert {one.cohort for one in status.scores} == {"lakeside"}
    assert marked not in (folder / "live.json").read_text()
    assert (folder / "live.json").stat().st_size < 5000


def test_a_run_that_stops_says_why_and_counts_on_when_it_goes_on(two_sites, submitted, told, three_sites):
    folder = submitted()
    path = three_sites / "strict.toml"
    path.write_text((three_sites / "lakeside.toml").read_text() + "max_rounds = 1\n")
    usual, two_sites.node_config[1] = two_sites.node_config[1], {"site": str(path)}
    with pytest.raises(ValueError, match="at most 1"):
        run_app(two_sites)
    assert told[-1].stage == "stopped"
    assert told[-1].reason == ("a site will not do what the study asks: rounds 2: this site allows at most 1")
    status = read_status(find(folder))
    assert (status.stage, status.is_alive) == ("stopped", False)

    # Bytes and refusals of the same run are added to; those of a new one begin at nothing.
    before = replace(
        told[-1], sites=tuple(replace(s, upload_bytes=5, num_refusals=2) for s in told[-1].sites)
    )
    write_live(folder, before)
    two_sites.node_config[1] = usual
    submitted(resume=True)
    carried = live_in(folder, "x", BOTH, 2, resume=True)
    with carried:
        assert [(s.upload_bytes, s.num_refusals) for s in read_live(folder).sites] == [(5, 2)] * 2
    submitted(resume=False)
    assert read_live(folder) is None
    (folder / "live.json").write_text("{")
    with live_in(folder, "x", BOTH, 2, resume=True):  # what is damaged is no reason to stop
        assert [s.upload_bytes for s in read_live(folder).sites] == [0] * 2


# --- by hand --------------------------------------------------------------------------------------------


def test_what_a_site_is_told_to_be():
    kept: list[LiveRecord] = []
    with made(kept) as told:
        assert state_of(kept) == ("not connected", "", False)
        told.joined("stonebridge")
        assert state_of(kept) == ("idle", "", True)
        told.begin_round("fed_medlora", 1, SITES)
        told.asked("stonebridge", 100)
        assert state_of(kept) == ("asked", "", True)
        told.absent("stonebridge", "no answer after 9 s")  # it was asked, and works on
        assert state_of(kept) == ("late", "no answer after 9 s", True)
        told.begin_round("fed_medlora", 2, SITES)  # waited for, not asked again
        assert state_of(kept) == ("late", "no answer after 9 s", True)
        told.begin_round("fed_medlora", 2, ("lakeside",))  # not even waited for
        assert state_of(kept) == ("idle", "", True)
        told.asked("stonebridge", 1)
        told.connected({"lakeside"})  # its connection is lost, its question is not
        assert state_of(kept) == ("asked", "", False)
        told.absent("stonebridge", "not connected for 60 s")
        assert state_of(kept) == ("not connected", "not connected for 60 s", False)
        told.answered("stonebridge", 7)
        assert state_of(kept) == ("answered", "", True)
        told.absent("stonebridge", "refused: array 'x' has another shape")
        assert state_of(kept) == ("refused", "refused: array 'x' has another shape", True)
        told.asked("stonebridge", 1)
        told.failed("stonebridge")
        told.absent("stonebridge", "its program failed or was lost, 3 times")
        assert state_of(kept) == ("absent", "its program failed or was lost, 3 times", True)
        told.asked("a stranger", 5)  # the study names it not
        told.absent("a stranger", "gone")
        assert [site.name for site in kept[-1].sites] == list(SITES)
    stonebridge = kept[-1].sites[2]
    assert (stonebridge.download_bytes, stonebridge.upload_bytes) == (102, 7)
    assert kept[-1].stage == "finished"


def test_a_sites_own_words_are_cut_and_printable():
    kept: list[LiveRecord] = []
    with made(kept) as told:
        told.answered("stonebridge", 1, "\x1b[31mno\n" + "x" * 9000)
        state, reason, _ = state_of(kept)
        assert state == "refused"
        assert reason.startswith(" [31mno xxx")
        assert len(reason) == 500
        assert reason.isprintable()
        assert kept[-1].sites[2].num_refusals == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("two sites are needed"), "two sites are needed"),
        (RuntimeError("words of a library, which may quote"), "RuntimeError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_how_it_ended(error, reason):
    kept: list[LiveRecord] = []

    def work() -> None:
        with made(kept):
            raise error

    with pytest.raises(type(error)):
        work()
    assert (kept[-1].stage, kept[-1].reason) == ("stopped", reason)
    assert "live.json" not in [thread.name for thread in threading.enumerate()]


def test_many_changes_are_few_writings(monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.2)
    kept: list[LiveRecord] = []
    with made(kept) as told:
        for number in range(1000):
            told.asked("lakeside", number)
        assert len(kept) <= 3  # far less than 0.4 s have gone by
        deadline = threading.Event()
        for _ in range(100):  # the last change is written, though nothing follows it
            if kept[-1].sites[0].download_bytes == 499_500:
                break
            deadline.wait(0.05)
        assert kept[-1].sites[0].download_bytes == 499_500  # 0 + 1 + ... + 999


def test_it_gives_a_sign_of_life(monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.02)
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.04)
    kept: list[LiveRecord] = []
    with made(kept):
        waited = threading.Event()
        for _ in range(100):
            if len(kept) > 3:
                break
            waited.wait(0.05)
    assert len(kept) > 3


def test_a_full_disk_stops_nothing(caplog):
    def write(record: LiveRecord) -> None:
        raise OSError(28, "No space left on device")

    with Live("A study", SITES, 2, write) as told:
        told.joined("lakeside")
        told.stage("aggregating")
    assert caplog.text.count("not written") == 1


# --- what passes through --------------------------------------------------------------------------------


class OneNode:
    """A grid with a node that gives the answers it was made with, in turn."""

    def __init__(self, *answers) -> None:
        self.answers, self.asked = list(answers), []

    def get_node_ids(self):
        return [7]

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
        assert state_of(kept) == ("absent", "its program failed or was lost", True)
        exchanged(over, TRAIN, question)
        assert state_of(kept) == ("answered", "", True)  # whether it can be read is for others to say
        exchanged(over, DESCRIBE, Letter({}))
        assert state_of(kept, "lakeside")[2] is False


class TwoAnswers:
    """Sites of which one answers and one does not."""

    def train(self, *arguments):
        yield Absent("stonebridge", "not connected")
        yield "an update"

    def losses(self, names, adapters, errand):
        return {}

    def read(self, *arguments):
        yield "an evaluation"


def test_sites_tell_the_stages():
    kept: list[LiveRecord] = []
    with made(kept) as told:
        sites = LiveSites(TwoAnswers(), told)
        errand = Errand("fed_medlora")
        assert len(list(sites.train(SITES, 2, None, errand))) == 2
        assert state_of(kept) == ("not connected", "not connected", False)
        assert (kept[-1].stage, kept[-1].round_num) == ("aggregating", 2)
        assert sites.losses(SITES, {}, errand) == {}
        assert "validating" in [one.stage for one in kept]
        assert list(sites.read(SITES, None, "constrained", Errand("zero_shot"), "")) == ["an evaluation"]
        assert (kept[-1].stage, kept[-1].method, kept[-1].round_num) == ("reading tests", "zero_shot", 0)


@pytest.mark.parametrize(
    ("label", "stages"),
    [
        ("validation loss", ["validating", "aggregating"]),
        ("validation losses of the sites' adapters", ["validating", "aggregating"]),
        ("Zero-shot: reads saltmarsh", ["reading tests"]),
        ("something else", []),
    ],
)
def test_the_coordinators_own_work_is_told(label, stages):
    kept: list[LiveRecord] = []
    with made(kept) as told, LiveProgress(Silent(), told).stage(label, 1.0) as advance:
        advance(1, 2)
        assert kept[-1].doing == label
    assert kept[-1].doing == ""
    passed = [key for key, _ in itertools.groupby(one.stage for one in kept)]
    assert passed == ["waiting for sites", *stages, "finished"]


def test_the_labels_are_those_of_the_coordinator():
    """``LiveProgress`` knows its work by these words."""
    source = Path(live.__file__).parents[1]
    texts = [(source / name).read_text() for name in ("train_method.py", "signals.py", "cohort.py")]
    for words in ('stage("validation loss"', "in the validation notes", "}: reads {"):
        assert any(words in text for text in texts), words
