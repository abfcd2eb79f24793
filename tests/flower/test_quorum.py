"""Rounds that go on: sites that fail, vanish, come back, refuse or are late, over the real ClientApp."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora.experiment import run_study
from fedmedlora.flower import asking
from fedmedlora.flower.grid_sites import join
from fedmedlora.model.saved import read_saved_adapter
from fedmedlora.sites import Wait
from fedmedlora.study import load_study

SITES = ("lakeside", "northgate", "stonebridge")
STONEBRIDGE = 3  # its node

pytestmark = pytest.mark.usefixtures("soon_given_up")


@pytest.fixture(scope="module")
def study_with(three_sites):
    """``study_with(rounds)``: the study file with ``rounds`` as its table."""

    def write(rounds: str) -> Path:
        text = (three_sites / "study.toml").read_text()
        head = text.replace('"fed_medlora_plus"', '"fed_medlora"').split("[rules")[0]
        path = three_sites / f"quorum-{abs(hash(rounds))}.toml"
        tail = "[evaluation]\nmax_sentences = 1\nbootstrap = 0\n" + text[text.index("[[sites]]") :]
        path.write_text(f"{head}[rounds]\n{rounds}\n{tail}")
        return path

    return write


def run_over(grid, path: Path, out: Path, **more):
    study = load_study(path, sites_are_here=False)
    return run_study(
        study, out, elsewhere=lambda terms, progress: join(grid, SITES, terms, progress, wait_s=0.3), **more
    )


def rounds_of(results):
    return results["methods"][0]["rounds"]


@pytest.fixture(scope="module")
def expected(study_with, tmp_path_factory, one_thread):
    out = tmp_path_factory.mktemp("expected") / "run"
    path = study_with("quorum = 1.0")
    plain = path.with_name("quorum-plain.toml")
    plain.write_text(path.read_text().replace("[rounds]\nquorum = 1.0\n", ""))
    results = run_study(load_study(plain), out)
    sizes = {site["site"]: site["num_target_tokens"] for site in rounds_of(results)[0]["sites"]}
    return read_saved_adapter(out / "adapters" / "fed_medlora"), sizes


def from_stonebridge(reply) -> bool:
    return reply[1].metadata.message_type == "train" and reply[1].metadata.src_node_id == STONEBRIDGE


def failing(grid, times: int):
    """The first ``times`` of stonebridge's updates become Flower's error for a program that ended."""
    from flwr.app import Error, Message

    num = 0

    def fault(replies):
        nonlocal num
        found = []
        for question, reply in replies:
            if from_stonebridge([question, reply]) and num < times:
                num += 1
                asked = next(m for m in grid.sent if m.metadata.message_id == question)
                reply = Message(Error(code=2, reason="killed"), reply_to=asked)
            found.append([question, reply])
        return found

    return fault


def test_a_site_whose_program_is_killed_is_asked_again(local_grid, study_with, expected, tmp_path):
    local_grid.fault = failing(local_grid, 2)
    results = run_over(local_grid, study_with("quorum = 1.0"), tmp_path / "out")
    assert read_saved_adapter(tmp_path / "out" / "adapters" / "fed_medlora") == expected[0]
    assert [one["absent"] for one in rounds_of(results)] == [[], []]


def test_and_given_up_after_some_attempts(local_grid, study_with, expected, tmp_path):
    local_grid.fault = failing(local_grid, 2)
    path = study_with("quorum = 0.6\nattempts = 2")
    first, second = rounds_of(run_over(local_grid, path, tmp_path / "out"))
    reason = "its program failed or was lost, 2 times"
    assert first["absent"] == [{"site": "stonebridge", "reason": reason}]
    assert [site["site"] for site in first["sites"]] == ["lakeside", "northgate"]
    assert second["absent"] == []  # it is back in the next round
    assert len(second["sites"]) == 3
    assert read_saved_adapter(tmp_path / "out" / "adapters" / "fed_medlora") != expected[0]


def test_a_question_that_a_site_lost_with_its_connection_is_asked_again(
    local_grid, study_with, expected, tmp_path
):
    """The node is gone with the first question, and back without it."""
    config, looks = dict(local_grid.node_config), 0
    lost = []

    def fault(replies):
        nonlocal looks
        if any(map(from_stonebridge, replies)) and not lost:
            lost.append(True)
            local_grid.node_config.pop(STONEBRIDGE)
            return [reply for reply in replies if not from_stonebridge(reply)]
        if lost and STONEBRIDGE not in local_grid.node_config:
            looks += 1
            if looks > 2:
                local_grid.node_config[STONEBRIDGE] = config[STONEBRIDGE]
        return replies

    local_grid.fault = fault
    run_over(local_grid, study_with("quorum = 1.0"), tmp_path / "out")
    assert lost
    assert read_saved_adapter(tmp_path / "out" / "adapters" / "fed_medlora") == expected[0]


def held_back(grid, until_round: str):
    """stonebridge's update of round 1 arrives once questions of ``until_round`` were asked."""

    def fault(replies):
        is_time = any(m.metadata.group_id == until_round for m in grid.sent)
        kept = [r for r in replies if from_stonebridge(r) and r[0] in first and not is_time]
        grid.waiting += kept
        return [r for r in replies if r not in kept]

    first = {"question 5"}  # three descriptions, then the third training
    return fault


def test_a_late_update_is_dropped(local_grid, study_with, tmp_path):
    local_grid.fault = held_back(local_grid, "2")
    path = study_with("quorum = 0.6\ndeadline_s = 0.3")
    first, second = rounds_of(run_over(local_grid, path, tmp_path / "out"))
    [absent] = first["absent"]
    assert absent["site"] == "stonebridge"
    assert absent["reason"].startswith("no answer after")
    assert second["absent"] == []
    assert [site["late_from"] for site in second["sites"]] == [None, None, None]
    asked = [m for m in local_grid.sent if m.metadata.message_type == "train"]
    assert len(asked) == 6


def test_or_kept_for_the_next_round(local_grid, study_with, expected, tmp_path):
    local_grid.fault = held_back(local_grid, "2")
    path = study_with('quorum = 0.6\ndeadline_s = 0.3\nlate = "keep"\nlate_discount = 0.25')
    first, second = rounds_of(run_over(local_grid, path, tmp_path / "out"))
    assert [one["site"] for one in first["absent"]] == ["stonebridge"]
    by_site = {site["site"]: site for site in second["sites"]}
    assert by_site["stonebridge"]["late_from"] == 1
    assert by_site["lakeside"]["late_from"] is None
    sizes = {site["site"]: site["num_target_tokens"] for site in second["sites"]}
    assert sizes["lakeside"] == expected[1]["lakeside"]
    assert sizes["stonebridge"] == int(0.25 * expected[1]["stonebridge"])
    assert second["weights"]["stonebridge"] == pytest.approx(sizes["stonebridge"] / sum(sizes.values()))
    asked = [m for m in local_grid.sent if m.metadata.message_type == "train"]
    assert len(asked) == 5  # it is not asked in round 2
    # What was carried over is in the round's own files: going on gives the same.
    again = run_over(local_grid, path, tmp_path / "out", resume=True)
    assert rounds_of(again)[1]["sites"] == second["sites"]


@pytest.mark.parametrize("exchange", ["", '\n[exchange]\nupload = "int8"\ndownload = "int8"'])
def test_a_refusal_counts_as_absence_where_the_quorum_holds(
    local_grid, study_with, three_sites, tmp_path, exchange
):
    path = three_sites / "refuses.toml"
    path.write_text((three_sites / "stonebridge.toml").read_text() + "max_rounds = 1\n")
    usual = local_grid.node_config[STONEBRIDGE]
    study = study_with(f"quorum = 0.6{exchange}")

    def strict(replies):  # in the second round it allows less than before and after
        rounds = [m.metadata.group_id for m in local_grid.sent if m.metadata.message_type == "train"]
        is_second = rounds.count("1") == 3 and "2" not in rounds
        local_grid.node_config[STONEBRIDGE] = {"site": str(path)} if is_second else usual
        return replies

    local_grid.fault = strict
    first, second = rounds_of(run_over(local_grid, study, tmp_path / "out"))
    assert first["absent"] == []
    [absent] = second["absent"]
    assert (
        absent["reason"]
        == "will not do what the study asks: rounds 2: this site allows at most 1 (max_rounds)"
    )


def test_without_its_quorum_a_round_waits_longer_than_its_deadline(
    local_grid, study_with, expected, tmp_path
):
    local_grid.fault = held_back(local_grid, "never")
    path = study_with("quorum = 1.0\ndeadline_s = 0.1")
    with pytest.raises(ValueError, match="1 sites did not answer in 3 s"):
        run_over(local_grid, path, tmp_path / "out")
    local_grid.fault = lambda replies: replies
    run_over(local_grid, path, tmp_path / "out", resume=True)
    assert read_saved_adapter(tmp_path / "out" / "adapters" / "fed_medlora") == expected[0]


def test_a_site_cannot_call_itself_what_another_key_is_registered_for(
    local_grid, study_with, three_sites, tmp_path, caplog
):
    local_grid.registered = dict(enumerate(SITES, start=1))
    local_grid.node_config[4] = {
        "site": str(three_sites / "stonebridge.toml")
    }  # before the real one is there
    local_grid.registered[4] = "northgate"
    real = local_grid.node_config.pop(STONEBRIDGE)
    path = study_with("quorum = 1.0")
    with pytest.raises(ValueError, match=r"stonebridge: after .* s not connected"):
        run_over(local_grid, path, tmp_path / "out")
    assert "the site whose key is northgate's calls itself stonebridge, and is left alone" in caplog.text
    local_grid.node_config[STONEBRIDGE] = real
    run_over(local_grid, path, tmp_path / "out")
    trained = {m.metadata.dst_node_id for m in local_grid.sent if m.metadata.message_type == "train"}
    assert trained == {1, 2, 3}


def test_a_run_goes_on_while_a_site_that_is_known_is_away_and_it_joins_when_it_is_back(
    local_grid, study_with, tmp_path
):
    """The run is stopped after round 1; when it goes on the site is away, and back on another node later."""
    path = study_with("quorum = 0.6")
    remembered = tmp_path / "sites.json"

    def over(out, **more):
        study = load_study(path, sites_are_here=False)
        return run_study(
            study,
            out,
            elsewhere=lambda terms, progress: join(
                local_grid, SITES, terms, progress, wait_s=0.2, rounds=study.rounds, remembered=remembered
            ),
            **more,
        )

    def stop(replies):
        if any(m.metadata.group_id == "2" for m in local_grid.sent):
            raise KeyboardInterrupt
        return replies

    local_grid.fault = stop
    with pytest.raises(KeyboardInterrupt):
        over(tmp_path / "out")
    local_grid.waiting.clear()
    away = local_grid.node_config.pop(STONEBRIDGE)

    def back(replies):
        if any(m.metadata.message_type == "evaluate.read" for m in local_grid.sent):
            return replies
        if replies and replies[0][1].metadata.message_type == "train":
            local_grid.node_config[7] = away
        return replies

    local_grid.fault = back
    first, second = rounds_of(over(tmp_path / "out", resume=True))
    assert first["absent"] == []
    assert second["absent"] == [{"site": "stonebridge", "reason": "not connected"}]
    read = {m.metadata.dst_node_id for m in local_grid.sent if m.metadata.message_type == "evaluate.read"}
    assert read == {1, 2, 7}


def test_a_late_site_that_was_gone_is_given_up_and_can_be_asked_anew(local_grid):
    config, num_polls = dict(local_grid.node_config), 0

    def fault(replies):
        nonlocal num_polls
        num_polls += 1
        if num_polls == 1:
            local_grid.node_config.pop(STONEBRIDGE)
        elif num_polls == 3:
            local_grid.node_config[STONEBRIDGE] = config[STONEBRIDGE]
        return replies

    local_grid.fault = fault
    found = asking.ask(
        local_grid, "train", {}, limit_s=9.0, wait=Wait(), still_out={STONEBRIDGE: ("question of old",)}
    )
    assert list(found) == [(STONEBRIDGE, asking.Unanswered("its program failed or was lost, 1 times"))]
    assert local_grid.sent == []


def test_what_is_late_in_one_method_plays_no_part_in_the_next(local_grid, study_with, tmp_path):
    path = study_with('quorum = 0.6\ndeadline_s = 0.3\nlate = "keep"')
    both = path.with_name("both-methods.toml")
    both.write_text(path.read_text().replace('["fed_medlora"]', '["fed_medlora", "fedsa_lora"]'))
    num_read = 0

    def fault(replies):
        nonlocal num_read
        num_read += sum(r[1].metadata.message_type == "evaluate.read" for r in replies)
        kept = [r for r in replies if r[0] == "question 8" and not num_read]  # stonebridge in round 2
        local_grid.waiting += kept
        return [r for r in replies if r not in kept]

    local_grid.fault = fault
    one, other = run_over(local_grid, both, tmp_path / "out")["methods"]
    assert [len(r["absent"]) for r in one["rounds"]] == [0, 1]
    assert [r["absent"] for r in other["rounds"]] == [[], []]
    assert {site["late_from"] for r in other["rounds"] for site in r["sites"]} == {None}


def test_a_site_that_was_late_for_too_long_is_asked_anew(local_grid, study_with, tmp_path):
    """Its answer to round 1 never comes; after three rounds it is asked again, and what it sends then
    counts."""
    path = study_with('quorum = 0.6\ndeadline_s = 0.3\nlate = "keep"')
    longer = path.with_name("six-rounds.toml")
    longer.write_text(path.read_text().replace("rounds = 2", "rounds = 6"))
    local_grid.fault = lambda replies: [r for r in replies if r[0] != "question 5"]
    rounds = rounds_of(run_over(local_grid, longer, tmp_path / "out"))
    assert [len(r["absent"]) for r in rounds] == [1, 1, 1, 1, 0, 0]
    assert {site["late_from"] for r in rounds for site in r["sites"]} == {None}
