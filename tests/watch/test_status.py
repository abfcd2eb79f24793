"""Numbers by hand: see ``made_up_watch`` for what they are made of."""

from dataclasses import replace

import pytest
from made_up_watch import NOW, SETTINGS, live_record, round_record

from fedmedlora.live_record import LiveSite
from fedmedlora.watch.status import (
    NOTHING_YET,
    Absence,
    Finished,
    MethodStatus,
    planned_rounds,
    status_of,
)

ONE_METHOD = SETTINGS | {"methods": ["zero_shot", "fed_medlora"]}


def finished(*records, settings=ONE_METHOD, **more):
    return Finished(settings, {"fed_medlora": records}, {}, **more)


def test_nothing_at_all():
    status = status_of(None, NOTHING_YET, NOW)
    assert (status.study, status.stage, status.is_alive, status.seconds_left) == ("", "", None, None)
    assert (status.methods, status.sites, status.rounds, status.scores) == ((), (), (), ())
    assert (status.num_done, status.num_planned) == (0, None)


def test_a_round():
    (one,) = status_of(live_record(), finished(round_record(1)), NOW).rounds
    assert (one.method, one.round_num, one.num_sites) == ("fed_medlora", 1, 2)
    assert one.train_loss == pytest.approx(1.75)  # (10 * 1 + 30 * 2) / 40
    assert (one.loss, one.strict_f1, one.lenient_f1) == (0.5, 0.625, 0.75)
    assert (one.upload_bytes, one.download_bytes) == (2000, 4000)
    assert one.seconds == 120  # the slower site's 100 s, then 18 + 2
    assert one.absent == (Absence("riverbend", "no answer after 90 s"),)
    assert one.weights == {"lakeside": 0.25, "northgate": 0.75}


def test_a_round_that_measured_nothing_on_one_machine():
    record = round_record(1, validation=None, validate_seconds=None)
    del record["absent"]  # of an older version
    for site in record["sites"]:
        site |= {"answer_seconds": None, "train_loss": None}
    (one,) = status_of(None, finished(record), NOW).rounds
    assert (one.train_loss, one.loss, one.strict_f1, one.absent) == (None, None, None, ())
    assert one.seconds == 102  # one site after the other: 50 + 50, and 2


def test_sites_as_their_coordinator_tells():
    records = (round_record(1), round_record(2, absent=[{"site": "riverbend", "reason": "refused: a nan"}]))
    status = status_of(live_record(round_num=3), finished(*records), NOW)
    lakeside, northgate, riverbend = status.sites
    assert (lakeside.state, lakeside.is_connected, lakeside.weight) == ("answered", True, 0.25)
    assert (lakeside.upload_bytes, lakeside.download_bytes) == (3000, 4000)
    assert (lakeside.num_rounds, lakeside.num_absences) == (2, 0)
    assert northgate.seen_utc == "2026-11-29T13:59:58Z"
    assert (riverbend.state, riverbend.reason, riverbend.weight) == ("refused", "not at night", None)
    assert (riverbend.num_rounds, riverbend.num_absences) == (0, 2)
    assert (riverbend.num_refusals, riverbend.num_not_let_in) == (2, 1)


def test_an_update_that_came_and_was_not_let_in():
    """The site has answered; that its update was none, its coordinator's record says."""
    live = live_record(stage="aggregating", round_num=1)
    live = replace(live, sites=(LiveSite("riverbend", True, NOW, "answered"),))
    record = round_record(1, absent=[{"site": "riverbend", "reason": "refused: a nan"}])
    (site,) = status_of(live, finished(record), NOW).sites
    assert (site.state, site.reason) == ("refused", "refused: a nan")
    (site,) = status_of(replace(live, round_num=2), finished(record), NOW).sites
    assert (site.state, site.reason) == ("answered", "")  # that was the round before


def test_without_a_coordinator_the_records_tell():
    status = status_of(None, finished(round_record(1), round_record(2)), NOW)
    assert [site.name for site in status.sites] == ["lakeside", "northgate", "riverbend"]
    assert [site.is_connected for site in status.sites] == [None] * 3
    assert [(s.upload_bytes, s.download_bytes) for s in status.sites] == [(2000, 4000), (2000, 4000), (0, 0)]
    assert (status.stage, status.num_done, status.num_planned) == ("", 2, 3)
    done = status_of(None, finished(round_record(1), is_done=True), NOW)
    assert (done.stage, done.is_alive) == ("finished", False)


def test_methods_in_the_studys_order_and_adaptations_behind():
    rounds = {
        "fed_medlora": [round_record(1)],
        "adapted": [round_record(2), round_record(1)],
        "single_site-northgate": [round_record(1)],
    }
    status = status_of(live_record(), Finished(SETTINGS, rounds, {}), NOW)
    assert status.methods == (
        MethodStatus("single_site:lakeside", 0, 3),
        MethodStatus("single_site:northgate", 1, 3),
        MethodStatus("single_site:riverbend", 0, 3),
        MethodStatus("fed_medlora", 1, 3),
        MethodStatus("adapted", 2, None),
    )
    assert (status.num_done, status.num_planned) == (2, 12)  # those whose number is known
    assert [(one.method, one.round_num) for one in status.rounds] == [
        ("single_site:northgate", 1), ("fed_medlora", 1), ("adapted", 1), ("adapted", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{}, {"methods": ["fed_medlora"]}, {"training": 3}, {"training": {"rounds": "3"}}]
)
def test_settings_that_tell_nothing(settings):
    assert planned_rounds(settings) == {}


# --- time left ------------------------------------------------------------------------------------------


def left(live, *records, settings=ONE_METHOD):
    return status_of(live, finished(*records, settings=settings), NOW).seconds_left


def test_time_left():
    # A round takes 120 s. Rounds 2 and 3 are left; round 2 has gone on for 60 s.
    assert left(live_record(), round_record(1)) == 180
    # It has gone on for longer than rounds take: what is left of it is nothing, not less.
    assert left(live_record(since_utc="2026-11-29T13:00:00Z"), round_record(1)) == 120
    # The sites are through, the round is not.
    assert left(live_record(stage="validating"), round_record(1)) == 240
    # Between rounds.
    assert left(live_record(round_num=1), round_record(1)) == 240
    assert left(live_record(stage="reading tests"), *(round_record(n) for n in (1, 2, 3))) == 0


def test_time_left_of_several_methods():
    """Of one that has not begun, as long as the others take: three sites alone, three rounds each."""
    fast = [site | {"answer_seconds": 10.0} for site in round_record(1)["sites"]]
    rounds = {
        "single_site-lakeside": [round_record(n, sites=fast) for n in (1, 2, 3)],  # 30 s each
        "fed_medlora": [round_record(1)],  # 120 s
    }
    status = status_of(live_record(), Finished(SETTINGS, rounds, {}), NOW)
    # six rounds of the two sites at the median of all (30 s), two of fed_medlora less the 60 s
    assert status.seconds_left == 6 * 30 + 2 * 120 - 60


@pytest.mark.parametrize(
    ("live", "records"),
    [
        (live_record(), ()),  # no round is finished
        (None, (round_record(1),)),  # nobody is at work, for all we know
        (live_record(stage="stopped"), (round_record(1),)),
        (live_record(written_utc="2026-11-29T13:59:00Z"), (round_record(1),)),  # silent
    ],
)
def test_time_left_is_not_known(live, records):
    assert left(live, *records) is None


def test_time_left_without_a_plan():
    assert left(live_record(), round_record(1), settings={}) is None


# --- how it stands --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "stage", "is_alive"),
    [
        ("2026-11-29T13:59:40Z", "training", True),  # 20 s
        ("2026-11-29T13:59:39Z", "training", False),
        ("2026-11-29T14:00:09Z", "training", True),  # clocks are set
        ("2026-11-29T13:59:59Z", "finished", False),
        ("2026-11-29T13:59:59Z", "stopped", False),
    ],
)
def test_signs_of_life(written, stage, is_alive):
    status = status_of(live_record(written_utc=written, stage=stage), NOTHING_YET, NOW)
    assert status.is_alive is is_alive


def test_an_outcome_says_what_the_coordinator_could_not():
    """It failed before it could write, or was killed and Flower's word came after."""
    early = status_of(None, NOTHING_YET, NOW, "two SuperNodes call themselves 'x'")
    assert (early.stage, early.reason) == ("stopped", "two SuperNodes call themselves 'x'")
    killed = status_of(live_record(), NOTHING_YET, NOW, "KeyError")
    assert (killed.stage, killed.reason, killed.is_alive) == ("stopped", "KeyError", False)
    told = status_of(live_record(stage="stopped", reason="its own"), NOTHING_YET, NOW, "another")
    assert told.reason == "its own"


def test_scores():
    entities = {"strict": {"f1": 0.5}, "lenient": {"f1": None}}
    records = [
        {"cohort": "lakeside", "decoding": "constrained", "scores": {"entities": entities}},
        {"cohort": "northgate", "decoding": "free", "scores": {"entities": None}},
    ]
    found = status_of(None, Finished(SETTINGS, {}, {"single_site-lakeside": records}), NOW).scores
    assert [(one.method, one.cohort, one.strict_f1, one.lenient_f1) for one in found] == [
        ("single_site:lakeside", "lakeside", 0.5, None),
        ("single_site:lakeside", "northgate", None, None),
    ]


def test_nothing_unprintable_comes_through():
    record = round_record(1, absent=[{"site": "a\x1b[2J", "reason": "b\n\u202e" + "c" * 900}])
    (one,) = status_of(None, finished(record), NOW).rounds
    (absence,) = one.absent
    assert absence.site == "a [2J"
    assert absence.reason.startswith("b  ccc")
    assert len(absence.reason) == 500
