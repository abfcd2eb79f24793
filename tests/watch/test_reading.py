import hashlib
import json
import os

import pytest
from made_up_run import make_results
from made_up_watch import NOW, live_record, round_record, write_run, write_state

from fedmedlora.watch.reading import find, read_status


def test_every_way_to_name_it(state, tmp_path):
    submission = state / "three-hospitals-0123456789ab"
    expected = read_status(find(state), NOW)
    assert (expected.study, expected.num_done, expected.round_num) == ("Three hospitals", 1, 2)
    assert read_status(find(submission), NOW) == expected
    alone = read_status(find(tmp_path / "out", {}), NOW)  # nobody says where the coordinator's state is
    assert (alone.num_done, alone.stage, alone.is_alive) == (1, "", None)


def test_a_run_finds_its_coordinator_by_the_environment(tmp_path):
    run = write_run(tmp_path / "out", {"fed_medlora": [round_record(1)]})
    ending = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:12]
    write_state(
        tmp_path / "state", tmp_path / "elsewhere", live_record(study="Another"), "another-0123456789ab"
    )
    write_state(tmp_path / "state", run, live_record(), f"three-hospitals-{ending}")
    environ = {"FEDMEDLORA_STATE": str(tmp_path / "state")}
    assert read_status(find(run, environ), NOW).stage == "training"
    assert find(run, {"FEDMEDLORA_STATE": str(tmp_path / "gone")}).submission is None


def test_of_several_runs_the_last_one(state, tmp_path):
    write_state(state, tmp_path / "out", live_record(study="The newer"), "a-newer-0123456789ab")
    old, new = state / "three-hospitals-0123456789ab", state / "a-newer-0123456789ab"
    for folder, seconds in ((old, 1000), (new, 2000)):
        for path in folder.iterdir():
            os.utime(path, (seconds, seconds))
    found = find(state)
    assert (found.submission, found.others) == (new, (old.name,))
    os.utime(old / "live.json", (3000, 3000))
    assert find(state).submission == old


def test_what_is_no_run(tmp_path):
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "study-runs.json").write_text("{}")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "submission.json").write_text('{"out": 5}')
    for name, said in (
        ("gone", "no such folder"),
        (".", "holds no run; give the coordinator's state folder"),
        ("many", "holds several runs; name one of them, such as .*runs/main/seed-1"),
        ("odd", r"submission\.json: names no folder"),
    ):
        folder = tmp_path / name
        if name == ".":
            folder = tmp_path / "empty"
            folder.mkdir()
        with pytest.raises(ValueError, match=said):
            find(folder)


def test_before_the_first_round_and_before_the_coordinator(tmp_path):
    state = write_state(tmp_path / "state", tmp_path / "out", None)
    status = read_status(find(state), NOW)
    assert (status.study, status.stage, status.sites) == ("", "", ())
    write_state(state, tmp_path / "out", live_record(stage="waiting for sites", method="", round_num=0))
    status = read_status(find(state), NOW)
    assert (status.stage, len(status.sites), status.num_planned) == ("waiting for sites", 3, None)


def test_a_round_that_is_written_again_is_read_again(state, tmp_path):
    assert len(read_status(find(state), NOW).rounds) == 1
    write_run(tmp_path / "out", {"fed_medlora": [round_record(1), round_record(2)]})
    assert [one.round_num for one in read_status(find(state), NOW).rounds] == [1, 2]
    other = round_record(2, validation={"loss": 0.25, "ner_strict_f1": None, "ner_lenient_f1": None})
    write_run(tmp_path / "out", {"fed_medlora": [other]})
    assert read_status(find(state), NOW).rounds[1].loss == 0.25


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "round-001.json: damaged"),
        ("[]", "round-001.json: .*a table"),
        (json.dumps(round_record(1) | {"weights": {"lakeside": "much"}}), r"weights\.lakeside"),
        (json.dumps({**round_record(1), "text": "a note"}), "unknown key"),
    ],
)
def test_a_damaged_round_is_named(state, tmp_path, content, said):
    path = tmp_path / "out" / "methods" / "fed_medlora" / "round-001.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        read_status(find(state), NOW)
    assert "a note" not in str(caught.value)


def test_results_and_scores(tmp_path):
    results = make_results()
    method = next(one for one in results["methods"] if one["name"] == "fed_medlora")
    run = write_run(tmp_path / "out", {"fed_medlora": [one | {"absent": []} for one in method["rounds"]]})
    for evaluation in method["evaluations"]:
        (run / "methods" / "fed_medlora" / f"{evaluation['cohort']}-constrained.json").write_text(
            json.dumps(evaluation)
        )
        (run / "methods" / "fed_medlora" / f"{evaluation['cohort']}-constrained.details.json").write_text(
            "[]"
        )
    assert read_status(find(run), NOW).stage == ""
    (run / "results.json").write_text("{}")  # that it is there says that the run is done
    status = read_status(find(run), NOW)
    assert (status.stage, len(status.rounds), len(status.scores)) == ("finished", 5, 5)
    told = {one["cohort"]: one["scores"]["entities"]["strict"]["f1"] for one in method["evaluations"]}
    assert {one.cohort: one.strict_f1 for one in status.scores} == told


def test_how_it_ended(state):
    (state / "three-hospitals-0123456789ab" / "outcome.json").write_text('{"results": null, "error": "no"}')
    status = read_status(find(state), NOW)
    assert (status.stage, status.reason) == ("stopped", "no")
