"""Whole studies on two tiny synthetic sites with a tiny random model."""

# Longer than 400 lines: one study is built and run once, and every test asks something else of that run.

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from interrupting import Interrupting
from tiny_study import SITES, make_study, short_note, without_time, write

from fedmedlora import experiment as experiment_module
from fedmedlora import prepare as prepare_module
from fedmedlora import sites as sites_module
from fedmedlora.corpora.jsonl import read_notes
from fedmedlora.corpora.note import Annotates
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.experiment import run_study
from fedmedlora.model.load import load_base_model
from fedmedlora.model.saved import read_manifest, read_saved_adapter
from fedmedlora.only_one import InUse
from fedmedlora.prepare import file_hashes, prepare, terms_of
from fedmedlora.report.results import validate
from fedmedlora.study_public import public_settings
from fedmedlora.tasks.training_set import sample_notes


def adapters(out: Path) -> dict[str, str]:
    return {p.name: read_saved_adapter(p).hash() for p in sorted((out / "adapters").iterdir())}


@pytest.fixture(scope="module")
def whole(material, tmp_path_factory):
    """The study with every method, run without a stop: (study, folder, results, progress)."""
    root = tmp_path_factory.mktemp("whole")
    study = make_study(material, root / "study", free=True)
    progress = Interrupting()
    results = run_study(study, root / "out", progress=progress, command=["fedmedlora", "run"])
    return study, root / "out", results, progress


def test_results_follow_their_schema(whole):
    study, _, results, _ = whole
    validate(json.loads(json.dumps(results)))
    assert [m["name"] for m in results["methods"]] == [
        "zero_shot", "single_site:lakeside", "single_site:northgate", "centralized", "fed_medlora",
        "fed_medlora_plus",
    ]  # fmt: skip
    assert results["study"] == study.to_dict()
    assert results["command"] == ["fedmedlora", "run"]
    zero_shot = results["methods"][0]
    assert zero_shot["adapter"] is None
    assert zero_shot["rounds"] == []
    assert [(e["cohort"], e["decoding"]) for e in zero_shot["evaluations"]] == [
        (cohort, decoding)
        for decoding in ("constrained", "free")
        for cohort in ("lakeside", "northgate", "stonebridge")
    ]
    for method in results["methods"][1:]:
        assert [r["round_num"] for r in method["rounds"]] == [1, 2]
        assert len(method["evaluations"]) == 3
        assert all(r["validation"]["loss"] > 0 for r in method["rounds"])
    assert [c["kind"] for c in results["cohorts"]] == ["site", "site", "external"]
    assert all(c["num_train_examples"] == 6 for c in results["cohorts"][:2])


def test_weights_and_losses_are_shown(whole):
    by_name = {m["name"]: m for m in whole[2]["methods"]}
    for one in by_name["fed_medlora_plus"]["rounds"]:
        assert sorted(one["weights"]) == sorted(SITES)
        assert all(s["validation_loss"] > 0 for s in one["sites"])
    for one in by_name["fed_medlora"]["rounds"]:
        sizes = {s["site"]: s["num_target_tokens"] for s in one["sites"]}
        assert one["weights"] == {k: pytest.approx(n / sum(sizes.values())) for k, n in sizes.items()}
        assert all(s["validation_loss"] is None for s in one["sites"])
        assert all(s["upload_bytes"] > 4 * whole[2]["model"]["adapter_parameters"] for s in one["sites"])


def test_files_of_every_round_and_every_method(whole):
    _, out, results, _ = whole
    for method in results["methods"][1:]:
        folder = out / "methods" / method["name"].replace(":", "-")
        for round_num in (1, 2):
            record = json.loads((folder / f"round-00{round_num}.json").read_text())
            saved = Adapter.from_bytes((folder / f"round-00{round_num}.safetensors").read_bytes())
            assert record["adapter_hash"] == saved.hash()
        # What is saved for use is what the last round left.
        assert read_saved_adapter(out / method["adapter"]) == saved
        assert read_manifest(out / method["adapter"])["base_model"]["hash"] == results["model"]["hash"]
    assert not (out / "site-updates").exists()
    assert len(set(adapters(out).values())) == 5, "no two methods give the same adapter"


def test_predictions_hold_no_text(whole, material):
    _, out, _, _ = whole
    files = sorted((out / "predictions").rglob("*.jsonl"))
    # 5 trained methods and zero-shot, 3 cohorts, end to end and given gold; zero-shot free as well.
    assert len(files) == 6 * 3 * 2 + 3 * 2
    for file in files:
        cohort = file.name.split(".")[0]
        gold = read_notes(material / f"{cohort}.test.jsonl").notes
        found = read_notes(file).notes
        assert [n.id for n in found] == [n.id for n in gold]
        assert all(n.text == n.group == "" and not n.meta for n in found)
        raw = file.read_text(encoding="utf-8")
        for note in gold:
            assert '"text"' not in raw
            assert not any(word in raw for word in note.text.split() if len(word) > 9)
    # Nor does any other file of the run hold a sentence.
    sentence = gold[0].text[:25]
    for file in out.rglob("*"):
        if file.is_file():
            assert sentence.encode() not in file.read_bytes(), file.name


def test_round_one_is_trained_once_for_both_rules(whole):
    labels = whole[3].labels
    for site in SITES:
        # single-site, fed_medlora and fed_medlora_plus begin alike: one training; their second rounds differ.
        assert labels.count(f"round 1/2: {site} trains") == 1
        assert labels.count(f"round 2/2: {site} trains") == 3
    assert labels.count("round 1/2: everybody trains") == 1


def test_the_plan_is_what_is_spent(whole):
    assert whole[3].spent == pytest.approx(whole[3].planned[0], rel=0.35)


def test_a_finished_run_is_only_read_again(whole, tmp_path):
    study, out, results, _ = whole
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    progress = Interrupting()
    again = run_study(study, copy, resume=True, progress=progress)
    assert progress.labels == []
    assert progress.planned == [0.0]
    assert without_time(again) == without_time(results)
    assert adapters(copy) == adapters(out)


@pytest.fixture(scope="module")
def plain(material, tmp_path_factory):
    """A smaller study (entities alone), run without a stop: (study, folder, results, stage labels)."""
    root = tmp_path_factory.mktemp("plain")
    study = make_study(
        material, root / "study", methods=["fed_medlora", "fed_medlora_plus"], modifiers=False, cohorts=()
    )
    progress = Interrupting()
    results = run_study(study, root / "out", progress=progress)
    return study, root / "out", results, progress.labels


def test_resume_from_every_point_gives_the_same_run(plain, tmp_path):
    """Ctrl-C in the middle of every stage (where a stage tells no middle: at its beginning)."""
    study, out, results, labels = plain
    assert len(labels) > 12
    for at, label in enumerate(labels):
        stopped = tmp_path / str(at)
        inside = "validation loss" not in label
        with pytest.raises(KeyboardInterrupt):
            run_study(study, stopped, progress=Interrupting(at, inside=inside))
        progress = Interrupting()
        resumed = run_study(study, stopped, resume=True, progress=progress)
        assert without_time(resumed) == without_time(results), label
        assert adapters(stopped) == adapters(out), label
        # What was finished is not done again: at most the stages of the round that was cut short.
        assert len(progress.labels) <= len(labels) - at + 4, label


def test_a_run_that_is_stopped_again_and_again_gets_to_its_end(plain, tmp_path):
    study, out, results, labels = plain
    num_stops = 0
    for _ in labels:
        try:
            resumed = run_study(study, tmp_path / "out", resume=True, progress=Interrupting(at=6))
            break
        except KeyboardInterrupt:
            num_stops += 1
    assert num_stops >= 2
    assert without_time(resumed) == without_time(results)
    assert adapters(tmp_path / "out") == adapters(out)


def test_two_processes_do_not_go_on_with_one_run(plain, tmp_path, monkeypatch):
    """The second is told that it may go on later, and has changed nothing until then."""
    study, out, results, _ = plain
    monkeypatch.setattr(experiment_module, "alone_in", partial(experiment_module.alone_in, wait_s=0.1))
    shutil.copytree(out, tmp_path / "out")
    files = sorted((tmp_path / "out").rglob("*"))
    with experiment_module.alone_in(tmp_path / "out"), pytest.raises(InUse, match="another process"):
        run_study(study, tmp_path / "out", resume=True)
    assert sorted((tmp_path / "out").rglob("*")) == files
    assert without_time(run_study(study, tmp_path / "out", resume=True)) == without_time(results)


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_resume_after_a_kill_between_files(plain, tmp_path, monkeypatch, stop_at):
    """Killed while a file is written: what is whole stays, what is not is done again."""
    study, out, results, _ = plain
    written = []
    real = sites_module.UpdateCache.save

    def save(self, update, numbers, key):
        written.append(update.site)
        if len(written) == stop_at:
            raise KeyboardInterrupt
        real(self, update, numbers, key)

    with monkeypatch.context() as patched:
        patched.setattr(sites_module.UpdateCache, "save", save)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, tmp_path / "out")
    resumed = run_study(study, tmp_path / "out", resume=True)
    assert without_time(resumed) == without_time(results)
    assert adapters(tmp_path / "out") == adapters(out)


def test_broken_on_purpose_dropout_left_on_is_seen(plain, tmp_path, monkeypatch):
    """A model that is not set to reading before a resumed evaluation gives other numbers."""
    study, out, results, _ = plain
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    for file in copy.glob("methods/*/*-constrained.json"):
        file.unlink()
    assert without_time(run_study(study, copy, resume=True)) == without_time(results)


def test_another_study_or_other_notes_are_refused(plain, tmp_path):
    study, out, _, _ = plain
    with pytest.raises(ValueError, match="holds a run already"):
        run_study(study, out)
    other = replace(study, seed=4, training=replace(study.training, weight_decay=0.5))
    with pytest.raises(ValueError, match=r"differs in seed, training\.weight_decay, so going on"):
        run_study(other, out, resume=True)
    folder = tmp_path / "study"
    shutil.copytree(study.folder, folder)
    notes = read_notes(folder / "lakeside.train.jsonl").notes
    write(folder / "lakeside.train.jsonl", notes[:1])
    with pytest.raises(ValueError, match="differs in files"):
        run_study(replace(study, folder=folder), out, resume=True)


def test_another_base_model_is_refused(plain, tmp_path, save_model):
    study, out, _, _ = plain
    folder = tmp_path / "study"
    shutil.copytree(study.folder, folder)
    from fedmedlora.model.load import load_base_model

    tokenizer = load_base_model(str(folder / "model")).encoder.tokenizer
    save_model(folder / "model", seed=1, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="differs in base_model"):
        run_study(replace(study, folder=folder), out, resume=True)


def test_a_federation_of_one_site_is_single_site_training(material, tmp_path):
    hashes = set()
    for method in ("single_site", "fed_medlora", "fed_medlora_plus"):
        study = make_study(
            material, tmp_path / method, methods=[method], sites=SITES[:1], modifiers=False, cohorts=(),
            evaluate=False, every_round=False,
        )  # fmt: skip
        run_study(study, tmp_path / method / "out")
        hashes |= set(adapters(tmp_path / method / "out").values())
    assert len(hashes) == 1


def test_a_site_named_like_the_centralized_pool(material, tmp_path):
    """ "everybody" trains on its own notes; the pool of everybody's notes is another matter."""
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    for part in ("train", "test"):
        shutil.copy(folder / f"lakeside.{part}.jsonl", folder / f"everybody.{part}.jsonl")
    study = make_study(
        folder, folder, methods=["single_site", "centralized"], sites=("everybody", "northgate"), rounds=1,
        modifiers=False, cohorts=(), evaluate=False, every_round=False,
    )  # fmt: skip
    run_study(study, tmp_path / "out")
    found = adapters(tmp_path / "out")
    assert found["centralized"] != found["single_site-everybody"]


def test_a_site_without_any_entity_trains(material, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    notes = read_notes(folder / "northgate.train.jsonl").notes
    write(folder / "northgate.train.jsonl", [replace(n, entities=(), modifiers=(), links=()) for n in notes])
    study = make_study(folder, folder, methods=["fed_medlora"], rounds=1, evaluate=False, every_round=False)
    results = run_study(study, tmp_path / "out")
    validate(json.loads(json.dumps(results)))
    sites = results["methods"][0]["rounds"][0]["sites"]
    assert [s["num_examples"] for s in sites] == [4, 4]
    assert all(0 < w < 1 for w in results["methods"][0]["rounds"][0]["weights"].values())


def test_a_site_that_annotates_nothing_is_refused(material, tmp_path):
    from fedmedlora.corpora.note import Annotates

    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    nothing = Annotates(frozenset(), frozenset())
    notes = read_notes(folder / "northgate.train.jsonl").notes
    write(
        folder / "northgate.train.jsonl",
        [replace(n, entities=(), modifiers=(), links=(), annotates=nothing) for n in notes],
    )
    with pytest.raises(ValueError, match=r"site 'northgate': .* gives no example to train on \(2 notes\)"):
        run_study(make_study(folder, folder), tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing half-written"


@pytest.mark.parametrize("other", ["lakeside.train", "northgate.test", "stonebridge.test"])
def test_validation_notes_must_be_of_neither_training_nor_test(material, tmp_path, other):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    taken = read_notes(folder / f"{other}.jsonl").notes[0]
    # Wrapped anew and under another id, it is still the same note.
    text = taken.text.replace(" ", "\n")
    write(folder / "validation.jsonl", [replace(taken, id="mine", text=text)])
    what = "training" if other.endswith("train") else "test"
    message = f"note 'mine' is also among the {what} notes of {other.split('.')[0]}"
    with pytest.raises(ValueError, match=message) as caught:
        run_study(make_study(folder, folder), tmp_path / "out")
    assert taken.text[:20] not in str(caught.value)


def test_notes_without_text_are_no_overlap_and_ids_may_repeat_between_validation_files(material, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    validation = read_notes(folder / "validation.jsonl").notes
    second = short_note(SITES[1], 1, "validation", 3)
    empty = replace(second, id="empty", text="", entities=(), modifiers=(), links=())
    write(folder / "second.jsonl", [replace(second, id=validation[0].id), empty])
    train = read_notes(folder / "lakeside.train.jsonl").notes
    write(folder / "lakeside.train.jsonl", [*train, empty])
    study = make_study(folder, folder, methods=["fed_medlora"], rounds=1, modifiers=False, evaluate=False)
    study = replace(
        study,
        validation=replace(study.validation, notes=("validation.jsonl", "second.jsonl"), max_sentences=0),
    )
    results = run_study(study, tmp_path / "out")
    assert results["methods"][0]["rounds"][0]["validation"]["ner_strict_f1"] is not None


def test_validation_notes_that_give_no_example_are_told_before_training(material, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    note = read_notes(folder / "validation.jsonl").notes[0]
    write(folder / "validation.jsonl", [replace(note, text="", entities=(), modifiers=(), links=())])
    study = make_study(folder, folder, methods=["fed_medlora_plus"], modifiers=False)
    progress = Interrupting()
    with pytest.raises(ValueError, match="no validation example"):
        run_study(study, tmp_path / "out", progress=progress)
    assert progress.labels == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cohort", ["lakeside", "stonebridge"])
def test_notes_that_are_trained_on_are_not_tested_on(material, tmp_path, cohort):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    taken = read_notes(folder / "lakeside.train.jsonl").notes[0]
    path = folder / f"{cohort}.test.jsonl"
    write(path, [*read_notes(path).notes, replace(taken, id="mine", text=taken.text.replace(" ", "\n"))])
    message = f"test notes of {cohort}: note 'mine' is also among the training notes of lakeside"
    with pytest.raises(ValueError, match=message) as caught:
        run_study(make_study(folder, folder), tmp_path / "out")
    assert taken.text[:20] not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_patient_of_a_site_is_in_its_training_or_in_its_test_notes(material, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    for name, part in [("lakeside", "train"), ("northgate", "test"), ("stonebridge", "test")]:
        path = folder / f"{name}.{part}.jsonl"
        write(path, [replace(note, group="patient 1") for note in read_notes(path).notes])
    # "patient 1" of another hospital is somebody else.
    prepare_study(make_study(folder, folder, cohorts=("stonebridge",)))
    path = folder / "lakeside.test.jsonl"
    write(path, [replace(note, group="patient 1") for note in read_notes(path).notes])
    with pytest.raises(ValueError, match=r"site 'lakeside': training note .* have the same group"):
        run_study(make_study(folder, folder), tmp_path / "out")


def prepare_study(study):
    base = load_base_model(study.model_name(), precision="float32")
    return prepare(study, terms_of(study, base), base.encoder)


def test_notes_of_no_group_are_of_no_patient(material, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    for part in ("train", "test"):
        path = folder / f"lakeside.{part}.jsonl"
        write(path, [replace(note, group="") for note in read_notes(path).notes])
    prepare_study(make_study(folder, folder))


@pytest.mark.parametrize("which", ["lakeside.test", "validation", "lakeside.train"])
def test_annotations_without_text_are_refused(material, tmp_path, which):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    notes = read_notes(folder / f"{which}.jsonl").notes
    write(folder / f"{which}.jsonl", [replace(note, text="") for note in notes])
    with pytest.raises(ValueError, match=f"{which}.jsonl: note .* has annotations but no text"):
        run_study(make_study(folder, folder), tmp_path / "out")


def test_a_validation_note_counts_once(material, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    shutil.copy(folder / "validation.jsonl", folder / "again.jsonl")
    study = make_study(folder, folder)
    for files in (("validation.jsonl", "validation.jsonl"), ("validation.jsonl", "again.jsonl")):
        twice = replace(study, validation=replace(study.validation, notes=files))
        with pytest.raises(ValueError, match="is there twice"):
            prepare_study(twice)


def test_what_validation_loses_is_counted(material, tmp_path):
    from fedmedlora.corpora.note import Entity

    study = make_study(material, tmp_path / "study", methods=["fed_medlora"])
    whole = prepare_study(study).validation_record
    path = study.folder / "validation.jsonl"
    note = read_notes(path).notes[0]
    split = Entity("X1", "problem", ((0, 2), (4, 6)))
    write(path, [replace(note, entities=(*note.entities, split))])
    found = prepare_study(study).validation_record
    assert found["not_expressible"] == {**whole["not_expressible"], "entity: discontinuous": 1}
    lengths = sorted(len(e.prefix) + len(e) for e in prepare_study(study).validation)
    tight = replace(study, tasks=replace(study.tasks, max_tokens=lengths[-1] - 1))
    lost = prepare_study(tight).validation_record
    assert lost["too_long"] == lengths.count(lengths[-1]) > 0
    assert lost["num_loss_examples"] == len(lengths) - lost["too_long"]


def test_an_overlap_in_any_validation_file_is_seen(material, tmp_path):
    study = make_study(material, tmp_path / "study")
    files = ("validation.jsonl", f"{SITES[0]}.train.jsonl")
    with pytest.raises(ValueError, match="also among the training notes"):
        prepare_study(replace(study, validation=replace(study.validation, notes=files)))


def test_another_version_does_not_go_on(material, tmp_path, monkeypatch):
    study = make_study(material, tmp_path / "study", methods=["zero_shot"], modifiers=False)
    run_study(study, tmp_path / "out")
    monkeypatch.setattr(experiment_module, "__version__", "0.0.1")
    with pytest.raises(ValueError, match="the run in it differs in fedmedlora"):
        run_study(study, tmp_path / "out", resume=True)


def test_what_no_answer_can_say_is_counted_as_it_is_asked(material, tmp_path):
    from fedmedlora.corpora.note import Entity

    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    path = folder / "lakeside.test.jsonl"
    note = read_notes(path).notes[0]
    text = "Patient has chest pain. Severe one today."
    across = Entity("T1", "problem", ((12, 30),))  # over the end of a sentence
    write(path, [replace(note, text=text, entities=(across,), modifiers=(), links=())])
    found = prepare_study(make_study(folder, folder))
    record = next(site.record for site in found.sites if site.name == "lakeside")
    assert record["test_not_expressible"] == {"entity: crosses sentences": 1}
    # As training notes its sentences are joined, and it can be learned.
    write(
        folder / "lakeside.train.jsonl",
        [replace(note, text=text, entities=(across,), modifiers=(), links=())],
    )
    (folder / "lakeside.test.jsonl").unlink()
    found = prepare_study(make_study(folder, folder, evaluate=False))
    assert found.sites[0].record["not_expressible"] == {}


def test_each_manifest_says_what_its_own_sites_annotate(material, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    parts = {"lakeside": ("problem", "drug"), "northgate": ("test",)}
    for name, types in parts.items():
        path = folder / f"{name}.train.jsonl"
        notes = read_notes(path).notes
        changed = []
        for note, kind in zip(notes, (types * len(notes))[: len(notes)], strict=True):
            entities = tuple(e for e in note.entities if e.type == kind)
            annotates = Annotates(frozenset({kind}), frozenset())
            changed.append(replace(note, entities=entities, modifiers=(), links=(), annotates=annotates))
        write(path, changed)
    study = make_study(folder, folder, methods=["single_site", "centralized", "fed_medlora"], rounds=1,
                       modifiers=False, every_round=False, cohorts=(), evaluate=False)  # fmt: skip
    run_study(study, tmp_path / "out")
    found = {}
    for path in (tmp_path / "out" / "adapters").iterdir():
        record = json.loads((path / "fedmedlora.json").read_text())
        found[record["adapter"]["method"]] = [
            one["annotates"]["entities"] for one in record["trained_prompts"]
        ]
    both = [["drug"], ["problem"], ["test"]]
    assert found == {
        "single_site:lakeside": both[:2],
        "single_site:northgate": both[2:],
        "centralized": both,
        "fed_medlora": both,
    }


def test_the_order_of_the_sites_changes_no_adapter(material, tmp_path):
    settings = {"methods": ["centralized", "fed_medlora"], "rounds": 1, "cohorts": (), "evaluate": False,
                "every_round": False}  # fmt: skip
    hashes = []
    for number, sites in enumerate((SITES, SITES[::-1])):
        out = tmp_path / f"out{number}"
        run_study(make_study(material, tmp_path / "study", sites=sites, **settings), out)
        hashes.append(
            [(out / "adapters" / m / "adapter_model.safetensors").read_bytes() for m in settings["methods"]]
        )
    assert hashes[0] == hashes[1]


def test_the_weights_follow_the_loss(material, tmp_path):
    study = make_study(material, tmp_path / "study", methods=["fed_medlora"], rounds=1, cohorts=(),
                       evaluate=False, every_round=False)  # fmt: skip
    study = replace(study, training=replace(study.training, loss="decision"))
    sizes = {site.name: site.num_target_tokens("decision") for site in prepare_study(study).sites}
    (one,) = run_study(study, tmp_path / "out")["methods"][0]["rounds"]
    assert {s["site"]: s["num_target_tokens"] for s in one["sites"]} == sizes
    assert one["weights"] == pytest.approx({n: k / sum(sizes.values()) for n, k in sizes.items()})


def test_a_model_with_too_few_positions_is_told_before_anything_is_written(material, tmp_path):
    study = make_study(material, tmp_path / "study")
    with pytest.raises(ValueError, match=r"max_tokens: 5000 is more than the 4096 positions"):
        run_study(replace(study, tasks=replace(study.tasks, max_tokens=5000)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_go_on_with_other_prompts(material, tmp_path, monkeypatch):
    study = make_study(material, tmp_path / "study", methods=["zero_shot"], modifiers=False)
    run_study(study, tmp_path / "out")
    monkeypatch.setattr(prepare_module, "prompts_here", lambda tasks: "0" * 64)
    with pytest.raises(ValueError, match="the run in it differs in prompts"):
        run_study(study, tmp_path / "out", resume=True)


def test_a_run_does_not_go_on_under_another_chat_template(material, tmp_path):
    study = make_study(material, tmp_path / "study", methods=["zero_shot"], modifiers=False)
    run_study(study, tmp_path / "out")
    run_study(study, tmp_path / "out", resume=True)
    template = "{% for m in messages %}USER {{ m.content }}{% endfor %} ANSWER "
    (study.folder / "model" / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(ValueError, match="the run in it differs in chat template"):
        run_study(study, tmp_path / "out", resume=True)


def test_every_file_that_is_read_is_hashed(material, tmp_path):
    study = make_study(material, tmp_path / "study", sites=SITES[:1], cohorts=())
    folder = study.folder
    (folder / "brat").mkdir()
    files = {"n.txt": "no pain", "n.ann": "T1\tproblem 3 7\tpain\n"}
    for name, text in files.items():
        (folder / "brat" / name).write_text(text, encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8")
    for train in ("brat", "n.txt"):
        where = folder / "brat" if train == "brat" else folder
        changed = replace(study, sites=(replace(study.sites[0], train=train),))
        seen = {json.dumps(file_hashes(changed))}
        (where / "n.ann").write_text("", encoding="utf-8")
        seen.add(json.dumps(file_hashes(changed)))
        (where / "n.txt").write_text("no pain!", encoding="utf-8")
        seen.add(json.dumps(file_hashes(changed)))
        if train == "brat":
            (where / "n.txt").rename(where / "m.txt")
            seen.add(json.dumps(file_hashes(changed)))
        assert len(seen) == (4 if train == "brat" else 3)


def test_a_sites_size_is_what_the_loss_supervises(material, tmp_path):
    site = prepare_study(make_study(material, tmp_path / "study")).sites[0]
    targets = [token for one in site.examples for token in one.target]
    assert site.num_target_tokens("lm") == site.num_target_tokens("lm+decision") == len(targets)
    open_places = [place for one in site.examples for place in one.choices if len(place) > 1]
    assert 0 < site.num_target_tokens("decision") == len(open_places) < len(targets)


def test_where_the_files_lie_on_this_machine_is_not_written_down(material, tmp_path):
    study = make_study(material, tmp_path / "study", methods=["fed_medlora"], rounds=1, modifiers=False)
    here = study.folder
    study = replace(
        study,
        model=replace(study.model, name=str(here / "model")),
        sites=tuple(replace(s, train=str(here / s.train), test=str(here / s.test)) for s in study.sites),
        cohorts=tuple(replace(c, test=str(here / c.test)) for c in study.cohorts),
        validation=replace(study.validation, notes=(str(here / "validation.jsonl"),)),
    )
    results = run_study(study, tmp_path / "out")
    assert str(tmp_path) not in json.dumps(results)
    assert results["study"]["sites"][0]["train"] == f"{SITES[0]}.train.jsonl"
    for file in (tmp_path / "out").rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes(), file.name
    # Relative paths stay as they are written.
    assert (
        public_settings(make_study(material, tmp_path / "study"))
        == make_study(material, tmp_path / "study").to_dict()
    )


def test_a_model_that_cannot_checkpoint_is_told_before_anything_is_written(material, tmp_path, monkeypatch):
    from transformers.modeling_layers import GradientCheckpointingLayer

    monkeypatch.delattr(GradientCheckpointingLayer, "_can_checkpoint_with_cache", raising=False)
    study = make_study(material, tmp_path / "study", methods=["fed_medlora"])
    study = replace(study, training=replace(study.training, gradient_checkpointing=True))
    with pytest.raises(ValueError, match=r"set training\.gradient_checkpointing = false"):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sample_of_test_notes_is_whole_notes_and_favours_no_length(material):
    notes = read_notes(material / "lakeside.train.jsonl").notes
    assert sample_notes(notes, max_sentences=1, seed=0, name="x") in [(n,) for n in notes]
    long = replace(notes[0], id="long", text="Pain again. " * 30)
    short = [replace(notes[0], id=f"s{i}", text="Pain again. " * 3) for i in range(9)]
    drawn = [sample_notes([long, *short], max_sentences=15, seed=seed, name="x") for seed in range(60)]
    assert len(sample_notes(short, max_sentences=3, seed=0, name="x")) == 1, "enough is enough"
    # 15 sentences are 5 short notes or end with the long one, which stands among the first 5 half the time.
    assert 20 <= sum(long in sample for sample in drawn) <= 40


def test_validation_takes_as_much_of_every_file_and_is_on_record(material, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(material, folder)
    many = [short_note(SITES[1], number, "validation", 4) for number in range(3)]
    write(folder / "second.jsonl", many)
    study = make_study(folder, folder, methods=["fed_medlora"])
    files = ("validation.jsonl", "second.jsonl")
    found = prepare_study(replace(study, validation=replace(study.validation, notes=files, max_sentences=4)))
    sentences_of = {}
    for one in found.validation:
        sentences_of.setdefault(one.example.note_id[0], set()).add(
            (one.example.note_id, one.example.pieces[0].start)
        )
    assert {name: len(places) for name, places in sentences_of.items()} == {"0": 2, "1": 2}
    assert {one.example.task for one in found.validation} == {"ner", "modifiers"}
    assert [note.id[0] for note in found.validation_notes] == ["0", "1"]
    record = found.validation_record
    assert record["num_notes"] == 4
    assert record["num_loss_examples"] == len(found.validation)
    assert record["num_f1_notes"] == 2
    assert record["num_f1_sentences"] == 3 + 4
    short = replace(study, tasks=replace(study.tasks, max_tokens=1))
    short = replace(short, validation=replace(study.validation, max_sentences=0))
    with pytest.raises(ValueError, match="no example"):
        prepare_study(short)
    assert (
        prepare_study(replace(study, validation=replace(study.validation, notes=()))).validation_record
        is None
    )


def test_centralized_training_takes_the_steps_of_all_sites(material, tmp_path):
    study = make_study(material, tmp_path / "study", methods=["centralized", "fed_medlora"], rounds=1,
                       cohorts=(), evaluate=False, every_round=False)  # fmt: skip
    together, apart = run_study(study, tmp_path / "out")["methods"]
    assert together["rounds"][0]["sites"][0]["num_examples"] == 8  # 2 sites, 2 steps each, 2 examples a step
    assert [site["num_examples"] for site in apart["rounds"][0]["sites"]] == [4, 4]


def test_the_revision_of_the_study_reaches_the_loader(material, tmp_path, monkeypatch):
    asked = {}

    def load(name, **settings):
        asked.update(settings)
        raise ValueError("stop here")

    monkeypatch.setattr(experiment_module, "load_base_model", load)
    study = make_study(material, tmp_path / "study")
    with pytest.raises(ValueError, match="stop here"):
        run_study(replace(study, model=replace(study.model, revision="v2")), tmp_path / "out")
    assert asked == {"precision": "float32", "quantization": "none", "revision": "v2"}
