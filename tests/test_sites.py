"""The carrier of a method's rounds, and what it refuses, with sites that only move numbers."""

from __future__ import annotations

import re
import weakref
from dataclasses import replace

import numpy as np
import pytest

from fedmedlora.aggregation.rule import load_rule
from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import Admission, Opened, Round
from fedmedlora.audit.log_file import RunLog, lines_of
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.rounds import Absent, SiteReport, Validator, run_rounds
from fedmedlora.run_audit import Recorded
from fedmedlora.run_folder import MethodFolder, UpdateCache
from fedmedlora.security.admission import Basis
from fedmedlora.security.change_norm import change_norm
from fedmedlora.sites import Errand, NotNow, Participants, SiteInfo, mean_of_others
from fedmedlora.study_rounds import Rounds

NAMES = ("a", "b", "c")
START = Adapter({"x": np.array([0.0, 8.0], np.float32)})


def report(site: str, round_num: int, current: Adapter, added: float) -> SiteReport:
    adapter = Adapter({"x": current.arrays["x"] + np.float32(added)})
    update = SiteUpdate(site, round_num, adapter, current.hash(), 10)
    return SiteReport(update, 5, 0.5, 1.0, 10, 20, 30)


class Moving:
    """Sites that add their own number; ``fault`` changes what the carrier brings."""

    def __init__(self, fault=lambda reports: reports) -> None:
        self.fault = fault
        self.asked: list[tuple[int, str]] = []

    @property
    def infos(self):
        return tuple(SiteInfo(name, {}, (), "", 0.0, {}, 0.0) for name in NAMES)

    def train(self, names, round_num, current, errand, changes, last_rounds, wait):
        self.asked += [(round_num, name) for name in names]
        yield from self.fault([report(n, round_num, current, 1.0 + NAMES.index(n)) for n in names])


def participants(sites, tmp_path) -> Participants:
    return Participants(sites, NAMES, UpdateCache(tmp_path / "updates"), Errand("fed_medlora"))


def test_three_sites_as_they_arrive(tmp_path):
    found = list(participants(Moving(lambda reports: reports[::-1]), tmp_path).train(1, START))
    assert [r.update.site for r in found] == ["c", "b", "a"]
    assert [float(r.update.adapter.arrays["x"][0]) for r in found] == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(("rule", "most"), [("fed_medlora", 1), ("fedsa_lora", 1), ("fed_medlora_plus", 6)])
def test_an_update_is_let_go_of_once_it_is_folded_in(rule, most, tmp_path):
    """Of a rule that folds one is there at a time; one that weighs by validation needs them together."""
    names = tuple("fedcba")
    alive: list[weakref.ref] = []
    counts = []

    class Each(Moving):
        @property
        def infos(self):
            return tuple(SiteInfo(name, {}, (), "", 0.0, {}, 0.0) for name in names)

        def train(self, wanted, round_num, current, errand, changes, last_rounds, wait):
            for name in wanted:
                made = report(name, round_num, current, 1.0)
                alive.append(weakref.ref(made.update.adapter.arrays["x"]))
                yield made
                del made
                counts.append(sum(each() is not None for each in alive))

    carrier = Participants(Each(), names, UpdateCache(tmp_path / "updates"), Errand(rule))
    validator = Validator(losses=lambda round_num, adapters: dict.fromkeys(adapters, 1.0))
    store = MethodFolder(tmp_path / "rounds")
    _, (record,) = run_rounds(START, load_rule(rule), carrier, 1, store=store, validator=validator)
    assert max(counts) == most
    assert [site["site"] for site in record["sites"]] == sorted(names)


def test_what_was_trained_once_is_not_asked_for_again(tmp_path):
    sites = Moving()
    first = list(participants(sites, tmp_path).train(1, START))
    again = list(participants(sites, tmp_path).train(1, START))
    assert len(sites.asked) == 3
    assert [r.update for r in again] == [r.update for r in first]
    assert [r.numbers() for r in again] == [r.numbers() for r in first]
    list(participants(sites, tmp_path).train(1, first[0].update.adapter))  # from another adapter
    assert len(sites.asked) == 6


def test_who_answered_before_the_stop_is_not_asked_again(tmp_path):
    def stopped(reports):
        yield reports[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(participants(Moving(stopped), tmp_path).train(1, START))
    sites = Moving()
    assert len(list(participants(sites, tmp_path).train(1, START))) == 3
    assert sites.asked == [(1, "b"), (1, "c")]


def swapped(reports):
    """Each under the other's name: only the names are exchanged, everything else is in order."""
    names = [reports[1].update.site, reports[0].update.site]
    moved = [
        SiteUpdate(name, r.update.round_num, r.update.adapter, r.update.started_from, 10)
        for name, r in zip(names, reports[:2], strict=True)
    ]
    return [SiteReport(update, **r.numbers()) for update, r in zip(moved, reports, strict=False)] + reports[
        2:
    ]


FAULTS = {
    "drops": (lambda reports: reports[1:], r"round 1: 2 of 3 sites .* 3 are needed \(a: no answer\)"),
    "drops all": (lambda reports: [], r"0 of 3 sites .*\(a: no answer; b: no answer; c: no answer\)"),
    "repeats": (lambda reports: [*reports, reports[0]], "update of 'a' came twice"),
    "repeats for another": (lambda reports: [reports[0], reports[0], reports[2]], "'a' came twice"),
    "another round's": (
        lambda reports: [report("a", 2, START, 1.0), *reports[1:]],
        "a: refused: an update of round 2",
    ),
    "another start's": (
        lambda reports: [report("a", 1, report("a", 1, START, 1.0).update.adapter, 1.0), *reports[1:]],
        "a: refused: it started from adapter",
    ),
    "a stranger's": (
        lambda reports: [
            SiteReport(SiteUpdate("z", 1, START, START.hash(), 1), 1, 0.0, 0.0, 0, 0, 0),
            *reports,
        ],
        "update of 'z' was not asked for; asked were a, b, c",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_carrier_that_drops_repeats_or_mixes_up_is_noticed(fault, tmp_path):
    change, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        list(participants(Moving(change), tmp_path).train(1, START))


def test_rounds_over_a_faulty_carrier_end_with_another_adapter_or_an_error(tmp_path):
    """What the carrier cannot know, two names exchanged, shows in the adapter once sizes differ."""

    def sized(reports):
        return [
            SiteReport(
                SiteUpdate(
                    r.update.site, 1, r.update.adapter, START.hash(), 10 ** NAMES.index(r.update.site)
                ),
                **r.numbers(),
            )
            for r in reports
        ]

    final = []
    for number, fault in enumerate((lambda reports: reports, swapped)):
        carrier = participants(Moving(lambda r, fault=fault: sized(fault(r))), tmp_path / str(number))
        store = MethodFolder(tmp_path / str(number) / "rounds")
        final.append(run_rounds(START, load_rule("fed_medlora"), carrier, 1, store=store)[0])
    assert final[0] != final[1]


def test_the_mean_of_the_others_by_hand():
    losses = {"a": {"b": 1.0, "c": 4.0}, "b": {"a": 2.0, "c": 6.0}, "c": {"a": 4.0, "b": 3.0}}
    assert [mean_of_others(losses, name) for name in NAMES] == [3.0, 2.0, 5.0]
    with pytest.raises(ValueError, match="no other site scored the adapter of 'd'"):
        mean_of_others(losses, "d")


TWO_OF_THREE = Rounds(quorum=0.6)


def tolerant(sites, tmp_path, rounds=TWO_OF_THREE, **more) -> Participants:
    return Participants(sites, NAMES, UpdateCache(tmp_path / "updates"), Errand("m"), rounds=rounds, **more)


def nan(site: str, round_num: int = 1) -> SiteReport:
    return report(site, round_num, START, float("nan"))


BAD = {
    "nan": (lambda: nan("b"), "refused: array 'x' holds NaN or infinity"),
    "infinity": (lambda: report("b", 1, START, float("inf")), "refused: array 'x' holds NaN or infinity"),
    "round": (lambda: report("b", 2, START, 1.0), "refused: an update of round 2"),
    "start": (
        lambda: report("b", 1, Adapter({"x": np.ones(2, np.float32)}), 1.0),
        "refused: it started from",
    ),
    "shape": (
        lambda: SiteReport(
            SiteUpdate("b", 1, Adapter({"x": np.ones(3, np.float32)}), START.hash(), 1), 1, 0.0, 0.0, 0, 0, 0
        ),
        r"refused: array 'x' has shape \(3,\), and not \(2,\)",
    ),
    "name": (
        lambda: SiteReport(
            SiteUpdate("b", 1, Adapter({"y": np.ones(2, np.float32)}), START.hash(), 1), 1, 0.0, 0.0, 0, 0, 0
        ),
        "refused: 1 of 1 arrays are missing, 'x' first",
    ),
    "absent": (lambda: Absent("b", "its connection was lost"), "its connection was lost"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_round_with_its_quorum_goes_on_without_what_it_cannot_use(kind, tmp_path):
    make, reason = BAD[kind]
    sites = Moving(lambda reports: [reports[0], make(), reports[2]])
    store = MethodFolder(tmp_path / "rounds")
    carrier = tolerant(sites, tmp_path)
    final, (record,) = run_rounds(START, load_rule("fed_medlora"), carrier, 1, store=store)
    assert [site["site"] for site in record["sites"]] == ["a", "c"]
    [absent] = record["absent"]
    assert absent["site"] == "b"
    assert re.fullmatch(reason + ".*", absent["reason"])
    assert float(final.arrays["x"][0]) == 2.0  # (1 + 3) / 2: nothing of b
    # The same record, and the same adapter, when the run goes on.
    assert run_rounds(START, load_rule("fed_medlora"), carrier, 1, store=store) == (final, [record])


BASIS = Basis("model", "tokenizer", "template", "prompts")


@pytest.mark.parametrize(
    ("found", "told"), [(None, "does not say"), ("other", "made with another prompts: ")]
)
def test_an_update_that_stands_on_something_else_is_not_let_in(found, told, tmp_path):
    other = None if found is None else replace(BASIS, prompts=found)
    own = [BASIS, other, BASIS]
    moving = Moving(lambda reports: [replace(r, basis=b) for r, b in zip(reports, own, strict=True)])
    answers = list(tolerant(moving, tmp_path, basis=BASIS).train(1, START))
    assert [one.update.site for one in answers[:2]] == ["a", "c"]
    assert answers[2].site == "b"
    assert told in answers[2].reason
    # What was let in once is not asked for its basis again.
    fixed = Moving(lambda reports: [replace(r, basis=BASIS) for r in reports])
    list(tolerant(fixed, tmp_path, basis=BASIS).train(1, START))
    assert fixed.asked == [(1, "b")]


def test_below_the_quorum_the_round_stops_at_once_and_says_who_and_why(tmp_path):
    left = []

    def fault(reports):
        yield nan("a")
        yield Absent("b", "gone")
        left.append(reports[2])
        yield reports[2]

    with pytest.raises(ValueError, match=r"0 of 3 .* 2 are needed \(a: refused: .*; b: gone; c: no answer\)"):
        list(tolerant(Moving(fault), tmp_path).train(1, START))
    assert left == []  # it was not waited for


@pytest.mark.parametrize(("answers", "may_go_on"), [("ab", True), ("ac", False)])
def test_below_the_quorum_a_refusal_ends_the_study_where_the_others_could_not_make_up_for_it(
    answers, may_go_on, tmp_path
):
    """Two of three are needed. a refuses; b is gone and may come back, c refuses too."""
    why = {"a": Absent("a", "will not", is_final=True), "b": Absent("b", "gone")}
    why["c"] = Absent("c", "will not either", is_final=True)
    carrier = tolerant(Moving(lambda reports: [why[name] for name in answers]), tmp_path)
    with pytest.raises(ValueError, match=r"0 of 3 sites .* 2 are needed") as caught:
        list(carrier.train(1, START))
    assert isinstance(caught.value, NotNow) == may_go_on


def entries_of(path) -> list:
    found = (read_line(line).entry for line in lines_of(path))
    return [entry for entry in found if not isinstance(entry, Opened)]


def test_why_an_update_is_not_let_in_stands_in_the_log_though_the_round_misses_its_quorum(tmp_path):
    """And once: when the run goes on and the round has its quorum, what is found then."""
    log = RunLog()
    log.open(tmp_path / "audit.jsonl")
    store = Recorded(MethodFolder(tmp_path / "rounds"), log, "fed_medlora")

    def run(fault):
        carrier = tolerant(Moving(fault), tmp_path, tell=store.absent)
        return run_rounds(START, load_rule("fed_medlora"), carrier, 1, store=store)

    with pytest.raises(ValueError, match="2 are needed"):
        run(lambda reports: [reports[0], nan("b"), Absent("c", "will not", is_final=True)])
    words = "refused: array 'x' holds NaN or infinity: its training has diverged"
    missed = [
        Admission("fed_medlora", 1, "b", False, words),
        Admission("fed_medlora", 1, "c", False, "will not"),
    ]
    assert entries_of(log.path) == missed
    run(lambda reports: [nan("b"), *reports[1:]])
    *admissions, end = entries_of(log.path)[2:]
    assert isinstance(end, Round)
    assert admissions == [
        missed[0],
        Admission("fed_medlora", 1, "a", True, ""),
        Admission("fed_medlora", 1, "c", True, ""),
    ]


def test_an_update_that_moves_too_far(tmp_path):
    """Sites move by 1, 2 and 3 times (1, 1): norms 1.41, 2.83, 4.24."""
    bounded = Rounds(quorum=0.3, max_change_norm=3.0)
    found = list(tolerant(Moving(), tmp_path / "1", bounded, norm_of=change_norm).train(1, START))
    assert [r.update.site for r in found[:2]] == ["a", "b"]
    assert [round(r.change_norm, 2) for r in found[:2]] == [1.41, 2.83]
    assert found[2] == Absent("c", "refused: it moved by 4.243, and max_change_norm is 3")

    ratio = Rounds(quorum=0.3, max_norm_ratio=1.4)
    store = MethodFolder(tmp_path / "rounds")
    carrier = tolerant(Moving(), tmp_path / "2", ratio, norm_of=change_norm, history=store.record)
    _, (first, second) = run_rounds(START, load_rule("fed_medlora"), carrier, 2, store=store)
    assert first["absent"] == []  # nothing to compare with yet
    assert [one["site"] for one in second["absent"]] == ["c"]  # 4.24 is more than 1.4 times 2.83


@pytest.mark.parametrize(("added", "told"), [(1e30, "1.414e+30"), (7100.0, "1.004e+04")])
def test_an_absurd_update_is_not_averaged_whatever_the_study_says(added, told, tmp_path):
    """By default: what is far from the bound is not even measured, and nothing of it is in a record."""
    moving = Moving(lambda reports: [reports[0], report("b", 1, START, added), reports[2]])
    carrier = tolerant(moving, tmp_path)
    store = MethodFolder(tmp_path / "rounds")
    final, (record,) = run_rounds(START, load_rule("fed_medlora"), carrier, 1, store=store)
    assert float(final.arrays["x"][0]) == 2.0
    assert record["absent"] == [
        {"site": "b", "reason": f"refused: it moved by {told}, and max_change_norm is 1e+04"}
    ]
    assert [site["change_norm"] for site in record["sites"]] == [None, None]
    # A study may say that it takes anything.
    anything = tolerant(moving, tmp_path / "any", Rounds(max_change_norm=0.0))
    assert len([one for one in anything.train(1, START) if isinstance(one, SiteReport)]) == 3


def test_where_a_quick_look_leaves_a_doubt_the_default_bound_is_measured_against(tmp_path):
    """An array of 8000 in size, before and after: they could be 16000 apart, and are 2."""
    start = Adapter({"x": np.array([8000.0, 0.0], np.float32)})
    moving = Moving(lambda reports: [report(name, 1, start, 1.0) for name in NAMES])
    found = list(tolerant(moving, tmp_path).train(1, start))
    assert [round(one.change_norm, 3) for one in found] == [1.414] * 3


def test_what_another_run_kept_is_measured_by_the_bounds_of_this_one(tmp_path):
    """Runs share updates; one without bounds lets in what this one does not, and nobody is asked again."""
    list(tolerant(Moving(), tmp_path, Rounds(quorum=0.3)).train(1, START))
    moving = Moving()
    bounded = Rounds(quorum=0.3, max_change_norm=3.0)
    found = list(tolerant(moving, tmp_path, bounded, norm_of=change_norm).train(1, START))
    assert [r.update.site for r in found[:2]] == ["a", "b"]
    assert [round(r.change_norm, 2) for r in found[:2]] == [1.41, 2.83]
    assert found[2:] == [Absent("c", "refused: it moved by 4.243, and max_change_norm is 3")]
    assert moving.asked == []


def test_the_wait_follows_what_sites_took_before(tmp_path):
    waits = []

    class Slow(Moving):
        def train(self, names, round_num, current, errand, changes, last_rounds, wait):
            waits.append(wait)
            taken = {"a": 10.0, "b": 12.0, "c": 40.0}
            reports = super().train(names, round_num, current, errand, changes, last_rounds, wait)
            for number, one in enumerate(reports):
                assert wait.is_enough() == (number >= 2)  # two of three are a quorum
                yield replace(one, answer_seconds=taken[one.update.site])

    rounds = Rounds(quorum=0.6, deadline_mads=3.0, late="keep", late_discount=0.25)
    store = MethodFolder(tmp_path / "rounds")
    carrier = tolerant(Slow(), tmp_path, rounds, history=store.record)
    run_rounds(START, load_rule("fed_medlora"), carrier, 2, store=store)
    # median 12, deviations 2, 0, 28: their median is 2
    assert [wait.deadline_s for wait in waits] == [None, 12.0 + 3 * 2.0]
    assert [wait.late_discount for wait in waits] == [0.25, 0.25]


def test_who_did_the_work_of_a_round(tmp_path):
    """b was absent in round 1, and its update of round 2 came in round 3."""
    records = {
        1: {"sites": [{"site": "a"}, {"site": "c"}]},
        2: {"sites": [{"site": "a", "late_from": None}]},
        3: {"sites": [{"site": "a"}, {"site": "b", "late_from": 2}]},
    }
    carrier = tolerant(Moving(), tmp_path, history=records.get)
    assert carrier.last_rounds(4) == {"a": 3, "b": 2, "c": 1}
    assert carrier.last_rounds(2) == {"a": 1, "b": 0, "c": 1}
