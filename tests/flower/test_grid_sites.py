"""The coordinator's side over real messages and the real ClientApp, without a network; and its faults."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_study import without_time

from fedmedlora.corpora.jsonl import read_notes, write_notes
from fedmedlora.exchange import spill
from fedmedlora.experiment import run_study
from fedmedlora.flower import asking, grid_sites
from fedmedlora.flower.grid_sites import join
from fedmedlora.flower.messages import LOSSES, Letter
from fedmedlora.model.saved import read_saved_adapter
from fedmedlora.sites import WAIT_FOR_ALL
from fedmedlora.study import load_study
from fedmedlora.training import validation

SITES = ("lakeside", "northgate", "stonebridge")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Nobody who has not answered by now will."""
    monkeypatch.setattr(grid_sites, "WORK_S", 0.2)
    monkeypatch.setattr(asking, "POLL_S", 0.05)


def run_over(grid, study_file: Path, out: Path, **more):
    study = load_study(study_file, sites_are_here=False)
    names = [site.name for site in study.sites]
    return run_study(
        study, out, elsewhere=lambda terms, progress: join(grid, names, terms, progress, wait_s=0.3), **more
    )


@pytest.fixture(scope="module")
def study_file(three_sites) -> Path:
    """Without validation by the sites, and with little to read at the end."""
    text = (three_sites / "study.toml").read_text()
    head = text.replace('"fed_medlora_plus"', '"fed_medlora"').split("[rules")[0]
    text = head + "[evaluation]\nmax_sentences = 1\nbootstrap = 0\n" + text[text.index("[[sites]]") :]
    path = three_sites / "rounds-only.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def expected(study_file, tmp_path_factory, one_thread) -> dict[str, np.ndarray]:
    out = tmp_path_factory.mktemp("expected") / "run"
    run_study(load_study(study_file), out)
    return dict(read_saved_adapter(out / "adapters" / "fed_medlora").arrays)


def assert_equal(out: Path, expected: dict[str, np.ndarray]) -> None:
    found = read_saved_adapter(out / "adapters" / "fed_medlora").arrays
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def is_train(replies) -> bool:
    return bool(replies) and replies[0][1].metadata.message_type == "train"


def test_the_same_adapter(local_grid, study_file, expected, tmp_path):
    run_over(local_grid, study_file, tmp_path / "out")
    assert_equal(tmp_path / "out", expected)


def test_updates_on_the_disk_and_adapters_in_several_letters_change_nothing(
    local_grid, three_sites, tmp_path, monkeypatch
):
    """Fed-MedLoRA+, validated by the sites: as with many sites or large adapters, at both carriers."""
    study = three_sites / "study.toml"
    monkeypatch.setattr(validation, "AT_ONCE", 1)  # as if there were many more sites than a pass takes
    run_study(load_study(study), tmp_path / "here")
    monkeypatch.setattr(spill, "HELD_BYTES", 0)
    monkeypatch.setattr(grid_sites, "LETTER_BYTES", 1)
    monkeypatch.setattr(asking, "PULLED_AT_ONCE", 1)
    run_study(load_study(study), tmp_path / "disk")
    found = run_over(local_grid, study, tmp_path / "out")
    assert len(found["methods"][0]["rounds"][0]["weights"]) == len(SITES)
    expected = read_saved_adapter(tmp_path / "here" / "adapters" / "fed_medlora_plus")
    for out in ("disk", "out"):
        assert read_saved_adapter(tmp_path / out / "adapters" / "fed_medlora_plus") == expected
        assert not list((tmp_path / out).rglob("spilled"))
    asked = [message for message in local_grid.sent if message.metadata.message_type == LOSSES]
    assert len(asked) >= 6  # each site scores two others, in a letter each
    assert {len(Letter.from_records(message.content).parts) for message in asked} == {1}


def test_the_order_of_arrival_changes_nothing(local_grid, study_file, expected, tmp_path):
    local_grid.fault = lambda replies: replies[::-1]
    run_over(local_grid, study_file, tmp_path / "out")
    assert_equal(tmp_path / "out", expected)


def test_a_lost_update_is_noticed_and_the_run_goes_on_after_it(local_grid, study_file, expected, tmp_path):
    local_grid.fault = lambda replies: replies[1:] if is_train(replies) else replies
    with pytest.raises(ValueError, match="1 sites did not answer"):
        run_over(local_grid, study_file, tmp_path / "out")
    num_asked = len(local_grid.sent)
    local_grid.fault = lambda replies: replies
    run_over(local_grid, study_file, tmp_path / "out", resume=True)
    assert_equal(tmp_path / "out", expected)
    kinds = [message.metadata.message_type for message in local_grid.sent[num_asked:]]
    # Only who was not heard is asked again in round 1.
    assert kinds == ["query.describe"] * 3 + ["train"] * 4 + ["evaluate.read"] * 3


def test_an_update_under_another_sites_name_is_noticed(local_grid, study_file, tmp_path):
    """Two replies whose questions were mixed up on the way."""

    def mixed_up(replies):
        if is_train(replies) and len(replies) > 1:
            replies[0][0], replies[1][0] = replies[1][0], replies[0][0]
        return replies

    local_grid.fault = mixed_up
    with pytest.raises(ValueError, match=r"site '\w+' sent an update in the name of '\w+'"):
        run_over(local_grid, study_file, tmp_path / "out")


def test_an_update_of_the_round_before_is_noticed(local_grid, study_file, tmp_path):
    kept = []

    def delayed(replies):
        if is_train(replies):
            kept.append([list(reply) for reply in replies])
            if len(kept) > 1:  # round 2's questions are answered with round 1's updates
                return [[new[0], old[1]] for new, old in zip(replies, kept[0], strict=True)]
        return replies

    local_grid.fault = delayed
    with pytest.raises(ValueError, match=r"round 2: .*lakeside: refused: an update of round 1"):
        run_over(local_grid, study_file, tmp_path / "out")


def test_an_update_that_comes_twice_counts_once(local_grid, study_file, expected, tmp_path):
    local_grid.fault = lambda replies: [*replies, *replies] if is_train(replies) else replies
    run_over(local_grid, study_file, tmp_path / "out")
    assert_equal(tmp_path / "out", expected)


def test_an_answer_to_another_question_is_no_answer(local_grid, study_file, tmp_path):
    """A site answers for itself, and once more for a neighbour."""

    def forged(replies):
        return [replies[0], [replies[1][0], replies[0][1]], *replies[2:]] if is_train(replies) else replies

    local_grid.fault = forged
    with pytest.raises(ValueError, match="in the name of"):
        run_over(local_grid, study_file, tmp_path / "out")


def test_sites_score_each_other_only_where_every_site_says_so(local_grid, three_sites, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(three_sites, folder)
    path = folder / "northgate.toml"
    path.write_text(path.read_text().replace("validates_others = true", "validates_others = false"))
    local_grid.node_config[2] = {"site": str(path)}
    with pytest.raises(ValueError, match=r"this site does not \(validates_others = false\)"):
        run_over(local_grid, folder / "study.toml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_site_that_keeps_its_scores_is_no_cohort_of_the_results(local_grid, three_sites, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(three_sites, folder)
    path = folder / "northgate.toml"
    path.write_text(path.read_text() + "scores = false\n")
    local_grid.node_config[2] = {"site": str(path)}
    results = run_over(local_grid, folder / "study.toml", tmp_path / "out")
    evaluated = {e["cohort"] for e in results["methods"][0]["evaluations"]}
    assert evaluated == {"lakeside", "stonebridge"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("max_rounds = 1", "rounds 2: this site allows at most 1"),
        ("max_steps_per_round = 1", "steps_per_round 2: this site allows at most 1"),
        ("max_rank = 1", "adapter rank 2: this site allows at most 1"),
        ('tasks = ["ner"]', "tasks modifiers are not among those that this site allows"),
    ],
)
def test_what_a_site_does_not_allow_is_refused_with_the_reason(
    local_grid, three_sites, tmp_path, change, message
):
    path = three_sites / "strict.toml"
    path.write_text((three_sites / "lakeside.toml").read_text() + change + "\n")
    local_grid.node_config[1] = {"site": str(path)}
    with pytest.raises(ValueError, match=message):
        run_over(local_grid, three_sites / "study.toml", tmp_path / "out")


def test_another_base_model_is_refused(local_grid, three_sites, model_folders, tmp_path):
    path = three_sites / "other-model.toml"
    text = (three_sites / "lakeside.toml").read_text()
    path.write_text(text.replace('name = "model"', f'name = "{model_folders["qwen2"]}"'))
    local_grid.node_config[1] = {"site": str(path)}
    with pytest.raises(ValueError, match="the base model at this site has hash"):
        run_over(local_grid, three_sites / "study.toml", tmp_path / "out")


def test_what_goes_wrong_at_a_site_stays_there(local_grid, three_sites, tmp_path, marked, caplog):
    """A file that is not there: its path is in the site's log, and not in what the coordinator reads."""
    path = three_sites / "broken.toml"
    path.write_text((three_sites / "lakeside.toml").read_text().replace("lakeside-train", "lost-train"))
    local_grid.node_config[1] = {"site": str(path)}
    with pytest.raises(ValueError, match="it failed with ValueError; its own log says where") as caught:
        run_over(local_grid, three_sites / "study.toml", tmp_path / "out")
    assert "lost-train" not in str(caught.value)
    assert "lost-train" in caplog.text
    assert marked not in caplog.text


def test_two_nodes_of_one_name_and_a_name_too_many(local_grid, three_sites, study_file, tmp_path, expected):
    other = three_sites / "visitor.toml"
    other.write_text(
        (three_sites / "lakeside.toml").read_text().replace('name = "lakeside"', 'name = "visitor"')
    )
    local_grid.node_config[4] = {"site": str(other)}
    run_over(local_grid, study_file, tmp_path / "out")  # a site that the study does not name is left alone
    assert_equal(tmp_path / "out", expected)
    asked = {m.metadata.dst_node_id for m in local_grid.sent if m.metadata.message_type == "train"}
    assert asked == {1, 2, 3}
    local_grid.node_config[4] = local_grid.node_config[1]
    with pytest.raises(ValueError, match="two SuperNodes call themselves 'lakeside'"):
        run_over(local_grid, study_file, tmp_path / "out2")


def test_a_site_that_does_not_come(local_grid, study_file, tmp_path):
    del local_grid.node_config[3]
    with pytest.raises(ValueError, match=r"stonebridge: after .* s not connected"):
        run_over(local_grid, study_file, tmp_path / "out")


def test_other_notes_at_a_site_are_noticed_on_resume(local_grid, three_sites, study_file, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(three_sites, folder)
    local_grid.node_config = {n: {"site": str(folder / f"{s}.toml")} for n, s in enumerate(SITES, start=1)}
    run_over(local_grid, folder / study_file.name, tmp_path / "out")
    path = folder / "lakeside-train.jsonl"
    found = read_notes(path)
    write_notes(path, found.notes[:-1], header=found.header)
    from fedmedlora.flower import client_app

    client_app._opened.cache_clear()
    with pytest.raises(ValueError, match="the run in it differs in files"):
        run_over(local_grid, folder / study_file.name, tmp_path / "out", resume=True)


def test_centralized_is_refused(three_sites):
    text = (three_sites / "study.toml").read_text().replace('["fed_medlora_plus"]', '["centralized"]')
    path = three_sites / "central.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="centralized trains on everybody's notes in one place"):
        load_study(path, sites_are_here=False)


def test_nobody_to_ask_is_no_question(local_grid):
    assert list(asking.ask(local_grid, "train", {}, limit_s=1.0, wait=WAIT_FOR_ALL)) == []
    assert local_grid.sent == []


@pytest.fixture(scope="module")
def lossy_file(study_file) -> Path:
    """Codecs that lose something both ways, three rounds of which a site misses one, own factors and none."""
    text = study_file.read_text().replace('"fed_medlora"', '"fed_medlora", "fedsa_lora"')
    text = text.replace("rounds = 2", "rounds = 3")
    text = text.replace('name = "northgate"\n', 'name = "northgate"\nabsent_rounds = [2]\n')
    codecs = '[exchange]\nupload = "top_k"\ndownload = "int8"\ntop_k_share = 0.2\n'
    path = study_file.with_name("lossy-rounds.toml")
    path.write_text(text.replace("[evaluation]", codecs + "[evaluation]"))
    return path


def rounds_of(results) -> list:
    """What every round of every method sent and left, without what a clock put there."""
    return without_time([[one["name"], one["rounds"]] for one in results["methods"]])


@pytest.fixture(scope="module")
def lossy_expected(lossy_file, tmp_path_factory, one_thread):
    """(results, folder) of the same in one process."""
    out = tmp_path_factory.mktemp("lossy") / "run"
    return run_study(load_study(lossy_file), out), out


def left(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in (out / "methods").rglob("round-*.safetensors")}


def test_codecs_give_the_same_bits_and_bytes(local_grid, lossy_file, lossy_expected, tmp_path):
    """Sites still hold what an earlier run of the same study left there; it plays no part."""
    results, out = lossy_expected
    found = run_over(local_grid, lossy_file, tmp_path / "out")
    assert rounds_of(found) == rounds_of(results)
    assert left(tmp_path / "out") == left(out)
    assert len(left(out)) == 6


def test_under_codecs_a_run_goes_on_with_the_same_bits(local_grid, lossy_file, lossy_expected, tmp_path):
    """An answer is lost in the last round: the site has kept its residual of that round already."""
    num_trained = 0

    def lost(replies):
        nonlocal num_trained
        num_trained += len(replies) if is_train(replies) else 0
        return replies[1:] if num_trained > 5 else replies

    local_grid.fault = lost
    with pytest.raises(ValueError, match="1 sites did not answer"):
        run_over(local_grid, lossy_file, tmp_path / "out")
    local_grid.fault = lambda replies: replies
    found = run_over(local_grid, lossy_file, tmp_path / "out", resume=True)
    assert rounds_of(found) == rounds_of(lossy_expected[0])
    assert left(tmp_path / "out") == left(lossy_expected[1])


def test_a_site_that_lost_what_it_held_is_sent_all_of_it(
    local_grid, three_sites, lossy_file, lossy_expected, tmp_path
):
    num_trained = 0

    def forgetful(replies):
        nonlocal num_trained
        num_trained += len(replies) if is_train(replies) else 0
        if num_trained == 5:  # after the second round; what the first began with a site makes itself
            shutil.rmtree(three_sites / "state-lakeside" / "held")
        return replies

    local_grid.fault = forgetful
    found = run_over(local_grid, lossy_file, tmp_path / "out")
    assert left(tmp_path / "out") == left(lossy_expected[1])
    paid, usual = (
        [{s["site"]: s["download_bytes"] for s in r["sites"]} for r in one["methods"][0]["rounds"]]
        for one in (found, lossy_expected[0])
    )
    # It is sent the change, and then all of it, as is who was away.
    assert paid[2]["lakeside"] == usual[2]["lakeside"] + usual[2]["northgate"]
    paid[2]["lakeside"] = usual[2]["lakeside"]
    assert paid == usual


def test_who_lost_what_it_held_is_asked_again_while_another_still_works(
    local_grid, three_sites, lossy_file, lossy_expected, tmp_path
):
    """The slow site's answer is held back until the other one has answered the second question."""
    num_trained = 0

    def slow(replies):
        nonlocal num_trained
        if not is_train(replies):
            return replies
        if num_trained == 5:  # the third round of the first method
            slow_one = [r for r in replies if r[1].metadata.src_node_id == 3]
            asked = [m for m in local_grid.sent if m.metadata.group_id == "3"]
            if slow_one and len(asked) == 3:
                local_grid.waiting += slow_one
                return [r for r in replies if r not in slow_one]
            return replies
        num_trained += len(replies)
        if num_trained == 5:
            shutil.rmtree(three_sites / "state-lakeside" / "held")
        return replies

    local_grid.fault = slow
    run_over(local_grid, lossy_file, tmp_path / "out")
    assert left(tmp_path / "out") == left(lossy_expected[1])


def test_a_fresh_run_does_not_go_on_with_what_another_left_at_a_site(
    local_grid, lossy_file, lossy_expected, tmp_path
):
    """The same terms, and a site that misses the first round in the second run alone."""
    run_over(local_grid, lossy_file, tmp_path / "first")
    text = lossy_file.read_text()
    path = lossy_file.with_name("late.toml")
    path.write_text(text.replace("absent_rounds = [2]", "absent_rounds = [1]"))
    results = run_study(load_study(path), tmp_path / "here")
    found = run_over(local_grid, path, tmp_path / "out")
    assert rounds_of(found) == rounds_of(results)
    assert left(tmp_path / "out") == left(tmp_path / "here")
    assert left(tmp_path / "here") != left(lossy_expected[1])
    assert not (tmp_path / "here" / "residuals").exists()
