"""One question to real sites in this process: not now, not at all, and what is counted."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from fedmedlora.flower import asking, client_app
from fedmedlora.flower.asking import answered
from fedmedlora.flower.ledger import FILE
from fedmedlora.flower.messages import DESCRIBE, LAST_ROUND, NOT_NOW, OPENS_IN_S, TRAIN, Letter, errand_fields
from fedmedlora.flower.site_program import GUARDED
from fedmedlora.flower.site_work import CURRENT, UPDATE
from fedmedlora.local_site import with_lora
from fedmedlora.model.load import load_base_model
from fedmedlora.model.lora import read_adapter
from fedmedlora.prepare import terms_of
from fedmedlora.sites import WAIT_FOR_ALL, Errand, NotNow, Wait
from fedmedlora.study import load_study


@pytest.fixture(scope="module")
def terms_and_start(three_sites, one_thread):
    """The study's terms without validation by the sites, and the untrained adapter."""
    study = load_study(three_sites / "study.toml")
    base = load_base_model(study.model_name(), precision="float32")
    terms = replace(terms_of(study, base), held_out_sentences=0)
    return terms, read_adapter(with_lora(base, terms))


@pytest.fixture
def question(terms_and_start):
    """``question(run)``: train round 1 of the run of that id, for a method that trains both factors."""
    terms, start = terms_and_start

    def of(run: str = "", **changes) -> Letter:
        fields = {"round_num": 1, LAST_ROUND: 0, **errand_fields(Errand("fed_medlora", run=run)), **changes}
        return Letter({"terms": terms.to_json(), **fields}, {CURRENT: start.to_bytes()})

    return of


@pytest.fixture
def grid_of(three_sites, tmp_path, grid_over):
    """``grid_of(allows, ...)``: a grid of sites with those lines under [allows], each with a fresh state."""
    names = ("lakeside", "northgate")

    def made(*allows: str):
        paths = []
        for name, lines in zip(names, allows, strict=False):
            text = (three_sites / f"{name}.toml").read_text()
            text = text.replace(f'state = "state-{name}"', f'state = "{tmp_path}/{name}"')
            path = three_sites / f"{tmp_path.name}-{name}.toml"
            path.write_text(f"{text}\n{lines}\n")
            paths.append(path)
        return grid_over(paths)

    return made


@pytest.fixture
def clock(monkeypatch):
    """One clock for coordinator and sites: 19:00 to begin with, and moved by waiting alone."""
    passed = SimpleNamespace(s=0.0)

    def sleep(seconds: float) -> None:
        passed.s += seconds

    def now() -> datetime:
        return datetime(2026, 3, 5, 19) + timedelta(seconds=passed.s)

    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: passed.s, sleep=sleep))
    monkeypatch.setattr(client_app, "datetime", SimpleNamespace(now=now))
    monkeypatch.setattr(asking, "POLL_S", 100.0)
    return passed


def ask(grid, kind, letters, later=lambda node, words: None):
    for node, answer in asking.ask(grid, kind, letters, limit_s=9.0, wait=WAIT_FOR_ALL, later=later):
        yield node, answered(answer)


def trained(folder: Path) -> dict[str, int]:
    return json.loads((folder / FILE).read_text())


def test_a_site_that_is_closed_is_asked_again_when_it_opens(grid_of, question, clock, tmp_path):
    grid = grid_of("", 'hours = "20:00-06:00"')
    told = []
    answers = []
    for node, answer in ask(
        grid, TRAIN, {1: question(), 2: question()}, later=lambda node, words: told.append((node, words))
    ):
        assert UPDATE in answer.parts
        answers.append((node, clock.s))
    # The open one at once, the other an hour later; and it was not asked in between.
    assert answers == [(1, 0.0), (2, 3600.0)]
    assert told == [(2, "this site begins to train between 20:00-06:00 by its clock")]
    assert [message.metadata.dst_node_id for message in grid.sent] == [1, 2, 2]
    assert trained(tmp_path / "northgate") == {"rounds": 1, "steps": 2}


def test_a_site_that_is_closed_is_not_asked_before_because_it_connects_anew(grid_of, question, clock):
    """It does so six times, and is asked three times at most; none of them was lost."""
    grid = grid_of('hours = "20:00-06:00"')

    def connects_anew(replies):
        grid.connected_at[1] = f"{clock.s // 600:.0f}"
        return replies

    grid.fault = connects_anew
    ((_, answer),) = ask(grid, TRAIN, {1: question()})
    assert UPDATE in answer.parts
    assert clock.s == 3600.0
    assert len(grid.sent) == 2


def test_a_turn_that_comes_after_the_hours_is_put_off(grid_of, question, clock, monkeypatch, tmp_path):
    """Asked at 19:00, while another run has its turn until 20:30; the site closes at 20:00."""

    @contextmanager
    def long_turn(file):
        clock.s += 5400.0 if clock.s == 0.0 else 0.0
        yield

    monkeypatch.setattr(client_app, "turn", long_turn)
    grid = grid_of('hours = "18:00-20:00"')
    ((_, answer),) = ask(grid, TRAIN, {1: question()})
    assert UPDATE in answer.parts
    assert clock.s == 23 * 3600.0  # at six the next day
    assert trained(tmp_path / "lakeside") == {"rounds": 1, "steps": 2}


def test_a_site_that_connected_anew_unseen_is_asked_again(grid_of, question, clock, tmp_path):
    """It lost its question, or its answer on the way, and was back before anybody looked."""
    grid = grid_of("", "")

    def lost(replies):
        if len(grid.sent) == 2:
            grid.connected_at[2] = "a moment later"
            return [reply for reply in replies if reply[0] != "question 1"]
        return replies

    grid.fault = lost
    assert {node for node, _ in ask(grid, TRAIN, {1: question(), 2: question()})} == {1, 2}
    assert [message.metadata.dst_node_id for message in grid.sent] == [1, 2, 2]
    assert trained(tmp_path / "northgate") == {"rounds": 1, "steps": 2}  # the second time from what it keeps


def test_a_site_that_stayed_connected_is_not(grid_of, question, clock):
    grid = grid_of("")
    grid.fault = lambda replies: []
    with pytest.raises(NotNow, match="1 sites did not answer"):
        list(ask(grid, TRAIN, {1: question()}))
    assert len(grid.sent) == 1


def test_a_round_with_its_quorum_does_not_wait_for_the_hours_of_a_site(grid_of, question, clock):
    grid = grid_of('hours = "20:00-06:00"')
    wait = Wait(is_enough=lambda: True)
    ((node, found),) = asking.ask(grid, TRAIN, {1: question()}, limit_s=9.0, wait=wait)
    assert (node, found) == (1, asking.Unanswered("it said: not now"))
    assert clock.s == 0.0


def test_a_site_puts_a_run_off_for_two_days_at_most(grid_of, question, clock, monkeypatch):
    grid = grid_of("")
    far = Letter({"refused": "", NOT_NOW: "never", OPENS_IN_S: 1e12}).to_records()
    first = []

    def never(replies):
        for reply in replies if not first else ():
            first.append(True)
            reply[1] = Message(far, reply_to=grid.sent[0])
        return replies

    grid.fault = never
    monkeypatch.setattr(asking, "POLL_S", 5000.0)
    ((_, answer),) = ask(grid, TRAIN, {1: question()})
    assert UPDATE in answer.parts
    assert asking.MOST_PUT_OFF_S <= clock.s < asking.MOST_PUT_OFF_S + 2 * 5000


def test_all_but_training_is_answered_at_any_hour(grid_of, question, clock):
    letter = Letter({"terms": question().text("terms")})
    ((_, answer),) = ask(grid_of('hours = "20:00-06:00"'), DESCRIBE, {1: letter})
    assert answer.text("name") == "lakeside"


def test_what_is_counted_is_what_is_trained(grid_of, question, tmp_path):
    """Of 2 steps a round: once for each run, however often the answer is asked for."""
    grid = grid_of("max_total_rounds = 2")
    for run, rounds in (("a", 1), ("a", 1), ("b", 2)):
        ((_, answer),) = ask(grid, TRAIN, {1: question(run)})
        assert UPDATE in answer.parts
        assert trained(tmp_path / "lakeside") == {"rounds": rounds, "steps": 2 * rounds}
    # The study is started a third time, or with another seed.
    with pytest.raises(ValueError, match=r"be 3 rounds in all .* at most 2 \(max_total_rounds\)"):
        list(ask(grid, TRAIN, {1: question("c")}))
    terms = json.loads(question().text("terms"))
    other = json.dumps({**terms, "seed": 4})
    with pytest.raises(ValueError, match="max_total_rounds"):
        list(ask(grid, TRAIN, {1: question("b", terms=other)}))
    assert trained(tmp_path / "lakeside") == {"rounds": 2, "steps": 4}


@pytest.mark.parametrize(
    ("allows", "changes", "words"),
    [
        ("max_total_steps = 1", {}, r"be 2 optimizer steps in all .* at most 1 \(max_total_steps\)"),
        ("min_examples = 13", {}, r"asks for, 13 \(min_examples\)|at least 13 \(min_examples\)"),
        ('uploads = ["int8"]', {}, "uploads float32 are not among"),
        ("", {"local": {"trains": "model", "sends": "model"}}, "whole_model = false"),
        ("", {"path": "/srv"}, "path: unknown field"),
    ],
)
def test_a_refusal_reaches_the_coordinator(grid_of, question, allows, changes, words, caplog, tmp_path):
    with pytest.raises(ValueError, match=f"a site will not do what the study asks: .*({words})"):
        list(ask(grid_of(allows), TRAIN, {1: question(**changes)}))
    assert "refused: " in caplog.text
    assert not (tmp_path / "lakeside" / FILE).exists()


def test_too_few_examples_of_all_that_there_are(grid_of, question):
    """How many a site has, only the site can tell; it refuses, and does not tell."""
    terms = json.loads(question().text("terms"))
    terms["training"]["max_train_examples"] = 0  # all
    asked = question(terms=json.dumps(terms))
    with pytest.raises(ValueError, match=r"fewer examples to train on than it asks for, 9999"):
        list(ask(grid_of("min_examples = 9999"), TRAIN, {1: asked}))


def test_as_many_examples_as_the_site_asks_for(grid_of, question):
    ((_, answer),) = ask(grid_of("min_examples = 12"), TRAIN, {1: question()})
    assert UPDATE in answer.parts


def test_what_is_refused_loads_no_model(grid_of, question, monkeypatch):
    monkeypatch.setattr(client_app, "open_site", None)
    with pytest.raises(ValueError, match="max_rank"):
        list(ask(grid_of("max_rank = 1"), TRAIN, {1: question()}))


def test_a_refused_bundle_is_told_in_the_sites_words(grid_of, question):
    grid = grid_of("")

    def refused(replies):
        for reply in replies:
            error = Error(ErrorCode.INVALID_FAB, "the app bundle holds 3 files\x1b[2J")
            reply[1] = Message(error, reply_to=grid.sent[0])
        return replies

    grid.fault = refused
    with pytest.raises(ValueError, match=r"does not take what the run sent it: .* 3 files \[2J$"):
        list(ask(grid, TRAIN, {1: question()}))


def test_under_a_bare_supernode_a_site_does_not_work(grid_of, question, monkeypatch):
    """So that whoever starts it as before there was a guard notices at the first study."""
    monkeypatch.delenv(GUARDED)
    with pytest.raises(ValueError, match=r"without the check .* fedmedlora.flower.site_program --site"):
        list(ask(grid_of(""), TRAIN, {1: question()}))
