"""Sites that only move numbers, over codecs that lose something: who is sent what, and what is kept."""

from __future__ import annotations

import functools
import shutil

import numpy as np
import pytest

from fedmedlora.aggregation.rule import load_rule
from fedmedlora.as_sent import AsSent, send_with_residual
from fedmedlora.exchange.adapter import Adapter, adapter_bytes
from fedmedlora.exchange.change import change_bytes
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.sent_update import receive_update, send_update, sent_update_bytes
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.own_parts import OwnParts
from fedmedlora.participation import holders
from fedmedlora.rounds import SiteReport, run_rounds
from fedmedlora.run_folder import MethodFolder, UpdateCache
from fedmedlora.sites import Errand, Participants, SiteInfo

START = Adapter({"x": np.array([0.0, 8.0], np.float32)})
UP = Exchange(upload="top_k", top_k_share=0.5)
DOWN = Exchange(download="top_k", top_k_share=0.5)


class Moving:
    """Sites that add their own numbers, and count how often they were asked."""

    are_here = True

    def __init__(self, steps) -> None:
        self.steps = {name: np.array(step, np.float32) for name, step in steps.items()}
        self.asked: list[tuple[int, str]] = []

    @property
    def infos(self):
        return tuple(SiteInfo(name, {}, (), "", 0.0, {}, 0.0) for name in self.steps)

    def train(self, names, round_num, current, errand, changes, last_rounds, wait):
        for name in names:
            self.asked.append((round_num, name))
            trained = Adapter({"x": current.arrays["x"] + self.steps[name]})
            update = SiteUpdate(name, round_num, trained, current.hash(), 10)
            yield SiteReport(update, 5, 0.5, 1.0, 10, 20, 30)


def run(tmp_path, sites, exchange, num_rounds, *, takes_part=None, begin_alike=True):
    """(the adapter after all rounds, its rounds' records, what each round left on the disk)."""
    errand = Errand("m", exchange=exchange)
    names = tuple(sites.steps)
    asked = Participants(sites, names, UpdateCache(tmp_path / "updates"), errand, takes_part, begin_alike)
    store = MethodFolder(tmp_path / "rounds")
    down = exchange.down()
    final, records = run_rounds(
        START, load_rule("fed_medlora"), AsSent(asked, OwnParts(tmp_path / "residuals")), num_rounds,
        store=store, download=None if down.is_exact else down,
    )  # fmt: skip
    return final, records, [store.load(number)[0] for number in range(1, num_rounds + 1)]


def values(adapter) -> list[float]:
    return adapter.arrays["x"].tolist()


def test_what_a_site_could_not_send_it_sends_later(tmp_path):
    # The site adds (2, 1), and one of two values travels. Round 1: (2, 1), so the 2, and 1 is kept.
    # Round 2: it trained (4, 9) from (2, 8), wants (4, 10): (2, 2), the first of two equal ones; 2 is kept.
    # Round 3: it trained (6, 9) from (4, 8), wants (6, 11): (2, 3), so the 3, and the first 2 is kept.
    _, records, found = run(tmp_path, Moving({"a": (2, 1)}), UP, 3)
    assert [values(one) for one in found] == [[2, 8], [4, 8], [4, 11]]
    kept = [OwnParts(tmp_path / "residuals").load("m", "a", number) for number in (0, 2, 3)]
    assert kept[0] is None
    assert [values(one) for one in kept[1:]] == [[0, 2], [2, 0]]
    assert OwnParts(tmp_path / "residuals").rounds("m", "a") == [2, 3]
    codec = UP.up()
    for number, record in enumerate(records, start=1):
        (site,) = record["sites"]
        assert site["upload_bytes"] == sent_update_bytes(
            codec, START.shapes(), site="a", round_num=number, num_target_tokens=10
        )
        assert site["download_bytes"] == adapter_bytes(START.shapes())


def test_what_the_coordinator_could_not_send_is_in_what_comes_of_the_round(tmp_path):
    # Round 2: the sites hold (0, 8) and are to hold (2, 9): (2, 1), so (2, 8), and 1 is missing. They train
    # (4, 9); with the missing 1 that is (4, 10). Round 3: from (2, 8) to (4, 10): (2, 2), so (4, 8).
    final, records, found = run(tmp_path, Moving({"a": (2, 1)}), DOWN, 3)
    assert [values(one) for one in found] == [[2, 9], [4, 10], [6, 11]]
    assert values(final) == [6, 11]  # as if nothing had been lost
    change = change_bytes(DOWN.down(), START.shapes())
    assert [r["sites"][0]["download_bytes"] for r in records] == [change] * 3


def test_exact_codecs_change_nothing(tmp_path):
    final, _, _ = run(tmp_path, Moving({"a": (0.1, 1e-7), "b": (3, -1)}), Exchange(), 3)
    errand = Errand("m")
    sites = Moving({"a": (0.1, 1e-7), "b": (3, -1)})
    plain = Participants(sites, ("a", "b"), UpdateCache(tmp_path / "other"), errand)
    store = MethodFolder(tmp_path / "plain")
    assert run_rounds(START, load_rule("fed_medlora"), plain, 3, store=store)[0] == final
    assert not (tmp_path / "residuals").exists()


@pytest.mark.parametrize("exchange", [UP, DOWN, Exchange("int4", "int8"), Exchange("bfloat16", "bfloat16")])
def test_a_run_that_goes_on_ends_with_the_same_bits(tmp_path, exchange):
    steps = {"a": (0.1, 1e-3), "b": (-0.7, 0.3)}
    whole, _, found = run(tmp_path / "whole", Moving(steps), exchange, 5)

    class Killed(Moving):
        def train(self, names, round_num, current, errand, changes, last_rounds, wait):
            for number, report in enumerate(
                super().train(names, round_num, current, errand, changes, last_rounds, wait)
            ):
                if (round_num, number) == stop_at:
                    raise KeyboardInterrupt
                yield report

    for stop_at in [(round_num, number) for round_num in (1, 3) for number in (0, 1)]:
        folder = tmp_path / str(stop_at)
        with pytest.raises(KeyboardInterrupt):
            run(folder, Killed(steps), exchange, 5)
        sites = Moving(steps)
        final, _, again = run(folder, sites, exchange, 5)
        assert final == whole
        assert again == found
        assert min(sites.asked)[0] == stop_at[0]  # no round before is trained again


def test_who_missed_a_round_is_sent_all_of_it_and_keeps_its_residual(tmp_path):
    there = {1: ("a", "b"), 2: ("a",), 3: ("a", "b"), 4: ("b",)}
    exchange = Exchange("top_k", "top_k", 0.5)
    sites = Moving({"a": (2, 1), "b": (2, 1)})
    _, records, _ = run(tmp_path, sites, exchange, 4, takes_part=there.__getitem__)
    whole, change = adapter_bytes(START.shapes()), change_bytes(exchange.down(), START.shapes())
    assert whole != change
    told = [{s["site"]: s["download_bytes"] for s in record["sites"]} for record in records]
    assert told == [{"a": change, "b": change}, {"a": change}, {"a": change, "b": whole}, {"b": change}]
    # Its rounds were 1, 3 and 4; after round 3 what it kept of round 1, which it went on with, was there too.
    assert OwnParts(tmp_path / "residuals").rounds("m", "b") == [3, 4]
    run(tmp_path / "three", sites, exchange, 3, takes_part=there.__getitem__)
    assert OwnParts(tmp_path / "three" / "residuals").rounds("m", "b") == [1, 3]
    _, records, _ = run(tmp_path / "model", sites, exchange, 2, begin_alike=False)
    assert [s["download_bytes"] for s in records[0]["sites"]] == [whole, whole]


def test_training_is_remembered_as_it_was_and_not_as_it_was_sent(tmp_path):
    sites = Moving({"a": (2, 1)})
    run(tmp_path, sites, UP, 1)
    again, _, _ = run(tmp_path / "other", Moving({"a": (2, 1)}), Exchange(), 1)
    (kept,) = (tmp_path / "updates").glob("*.safetensors")
    assert SiteUpdate.from_bytes(kept.read_bytes()).adapter == again


def test_holders():
    there = {1: ("a", "b"), 2: ("b", "c")}.__getitem__
    held = functools.partial(holders, takes_part=there, begin_alike=True)
    assert held(("a", "b"), 1) == ("a", "b")
    assert held(("b", "c"), 2) == ("b",)
    assert held(("c", "a", "b"), 3) == ("c", "b")
    assert holders(("a",), 1, there, begin_alike=False) == ()


def test_a_training_that_diverged_is_not_sent_and_leaves_no_residual(tmp_path):
    with pytest.raises(ValueError, match=r"b: refused: array 'x' holds NaN or infinity"):
        run(tmp_path, Moving({"a": (2, 1), "b": (1, np.nan)}), UP, 1)
    residuals = OwnParts(tmp_path / "residuals")
    assert residuals.latest("m", "a") is not None
    assert residuals.latest("m", "b") is None


def test_an_update_with_another_record_is_refused():
    codec = UP.up()
    update = SiteUpdate("mercy", 3, START, START.hash(), 1200)
    sent = send_update(update, START, codec, None)
    assert receive_update(sent.message, START, codec) == update == sent.update
    exact = Exchange().up()
    assert receive_update(send_update(update, START, exact, None).message, START, exact) == update
    for data, by, message in (
        (sent.message, exact, "fedmedlora-update: expected format"),
        (update.to_bytes(), codec, "fedmedlora-update-change: expected format"),
        (sent.message, Exchange("int8").up(), "codec is 'top_k', and here it is 'int8'"),
        (sent.message.replace(b"mercy", b"merc/"), codec, "site name"),
        (sent.message.replace(b'round_num\\":3', b'round_num\\":0'), codec, "rounds count from 1"),
        (sent.message.replace(b"round_num", b"round_nun"), codec, "its record does not hold what it should"),
    ):
        assert data != sent.message or by != codec
        with pytest.raises(ValueError, match=message):
            receive_update(data, START, by)


THERE_FROM_ROUND_2 = {1: ("b",), 2: ("a", "b"), 3: ("a", "b")}


@pytest.mark.parametrize("run_ids", [("", ""), ("1", "2")], ids=["round", "run"])
def test_a_site_does_not_go_on_with_what_another_run_left(run_ids, tmp_path):
    """Where a folder serves two runs, and in one of them the site misses the first round."""
    # The site adds (2, 1); of (2, 1) the 2 travels and 1 is kept. A run in which that was its first round
    # sends the 2 again; going on with the other run's residual it would send (2, 2), and keep 2.
    residuals = OwnParts(tmp_path)
    wanted = Adapter({"x": START.arrays["x"] + np.array([2, 1], np.float32)})
    updates = [SiteUpdate("a", number, wanted, START.hash(), 10) for number in (1, 2)]
    first, second = (Errand("m", exchange=UP, run=run_id).whose for run_id in run_ids)
    sent = send_with_residual(updates[0], START, UP.up(), residuals, first, 0)
    assert values(sent.residual) == [0, 1]
    other = send_with_residual(updates[1], START, UP.up(), residuals, second, 0)
    assert values(other.residual) == [0, 1]
    if first != second:  # and the first run finds what it left
        assert values(residuals.load(first, "a", 1)) == [0, 1]


def test_what_an_earlier_run_left_in_a_folder_plays_no_part(tmp_path):
    """In one process: a first run in which the site is there in round 1, and another in which it is not."""
    sites = {"a": (2, 1), "b": (-1, 0.5)}
    run(tmp_path / "used", Moving(sites), UP, 1)
    shutil.rmtree(tmp_path / "used" / "rounds")
    _, _, expected = run(tmp_path / "new", Moving(sites), UP, 3, takes_part=THERE_FROM_ROUND_2.__getitem__)
    _, _, found = run(tmp_path / "used", Moving(sites), UP, 3, takes_part=THERE_FROM_ROUND_2.__getitem__)
    assert found == expected


def test_a_site_that_was_away_for_long_goes_on_with_what_it_kept(tmp_path):
    there = {1: ("a", "b"), 2: ("b",), 3: ("b",), 4: ("b",), 5: ("a", "b")}
    sites = Moving({"a": (2, 1), "b": (0, 0)})
    residuals = OwnParts(tmp_path / "residuals")
    run(tmp_path, sites, UP, 4, takes_part=there.__getitem__)
    assert (residuals.rounds("m", "a"), residuals.rounds("m", "b")) == ([1], [3, 4])
    # It trained (2, 1) more, and wants the 1 of round 1 too: (2, 2), the first of two equal ones.
    run(tmp_path, sites, UP, 5, takes_part=there.__getitem__)
    assert values(residuals.load("m", "a", 5)) == [0, 2]


@pytest.mark.parametrize("harm", ["missing", "damaged", "of other arrays"])
def test_a_lost_residual_is_warned_of_and_the_round_goes_on(tmp_path, harm):
    run(tmp_path, Moving({"a": (2, 1)}), UP, 1)
    residuals = OwnParts(tmp_path / "residuals")
    (path,) = residuals.folder.rglob("*.safetensors")
    if harm == "missing":
        path.unlink()
    elif harm == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.write_bytes(Adapter({"y": START.arrays["x"]}).to_bytes())
    told = "missing" if harm == "missing" else "damaged"
    with pytest.warns(UserWarning, match=rf"site 'a', round 2: what it had not sent by round 1 is {told}"):
        _, _, found = run(tmp_path, Moving({"a": (2, 1)}), UP, 2)
    assert values(found[1]) == [4, 8]
    assert values(residuals.load("m", "a", 2)) == [0, 1]  # and not [0, 2]: round 1's is lost
