"""Whole studies in a schema of one's own, in every output form: notes about birds, a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedlora import measure
from fedmedlora.cli import main
from fedmedlora.corpora.jsonl import read_notes, write_notes
from fedmedlora.corpora.load import load_notes
from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.schema import load_schema
from fedmedlora.extraction import grammar
from fedmedlora.model.saved import read_manifest
from fedmedlora.report.results import read_results
from fedmedlora.study import load_study, parse_study
from fedmedlora.tasks.form import known_forms
from fedmedlora.tasks.prompts import instruction

SCHEMA = """\
format = "fedmedlora-schema"
version = 1
name = "birds"
[[entity]]
name = "Song-bird"
long = "any bird that sings"
short = "singer"
modifiers = ["how_many", "colour"]
[[entity]]
name = "Place"
[[modifier]]
name = "colour"
short = "of feathers"
[[modifier]]
name = "how_many"
"""
STUDY = """\
name = "Birds"
seed = 3
methods = ["zero_shot", "fed_medlora", "fed_medlora_plus"]
[model]
name = "model"
precision = "float32"
[adapter]
rank = 2
alpha = 4.0
[tasks]
prompts = "short"
schema = "schemas/birds.toml"
form = "{form}"
max_tokens = 4000
[training]
rounds = 2
steps_per_round = 2
examples_per_step = 2
micro_batch = 2
learning_rate = 1e-2
warmup_steps = 1
[validation]
notes = ["validation.jsonl"]
[evaluation]
bootstrap = 10
decoding = {decoding}
[[sites]]
name = "garden"
train = "garden.jsonl"
test = "test.jsonl"
[[sites]]
name = "park"
train = "park.jsonl"
"""
EVERYTHING = Annotates(
    frozenset({"Song-bird", "Place"}), frozenset({"Song-bird.how_many", "Song-bird.colour"})
)


def note(note_id: str, number: str, bird: str, place: str) -> Note:
    """ "Two red robins in the hedge." and the like, everything annotated."""
    text = f"{number} red {bird} in the {place}. Nothing else."
    at = len(number) + 1

    def mention(letter: str, kind: str, words: str) -> Entity:
        start = text.index(words)
        return Entity(letter, kind, ((start, start + len(words)),))

    return Note(
        note_id,
        text,
        (mention("E1", "Song-bird", bird), mention("E2", "Place", place)),
        (Entity("M1", "how_many", ((0, at - 1),)), Entity("M2", "colour", ((at, at + 3),))),
        (Link("E1", "M1"), Link("E1", "M2")),
        EVERYTHING,
    )


def write(path: Path, *notes: Note) -> None:
    write_notes(path, notes, header={"name": path.stem, "schema": "birds", "synthetic": True})


@pytest.fixture(scope="module")
def material(tmp_path_factory, save_model, tokenizer_of) -> Path:
    root = tmp_path_factory.mktemp("birds")
    (root / "schemas").mkdir()
    (root / "schemas" / "birds.toml").write_text(SCHEMA, encoding="utf-8")
    write(root / "garden.jsonl", note("g1", "Two", "robins", "hedge"), note("g2", "One", "wren", "pond"))
    write(root / "park.jsonl", note("p1", "Three", "finches", "oak"))
    write(root / "test.jsonl", note("t1", "Four", "robins", "reed"))
    write(root / "validation.jsonl", note("v1", "Five", "finches", "hedge"))
    schema = load_schema(root / "schemas" / "birds.toml")
    lines = [n.text for n in read_notes(root / "garden.jsonl").notes]
    lines += [
        instruction(task, schema, EVERYTHING, prompt_set="short", form=form)
        for task in ("ner", "modifiers")
        for form in known_forms()
    ]
    save_model(root / "model", tokenizer=tokenizer_of(lines, 700), std=0.05)
    return root


def decodings(form: str) -> list[str]:
    """How adapters are read: form tags has nothing to read freely."""
    return ["constrained"] if form == "tags" else ["constrained", "free"]


def study_text(form: str) -> str:
    return STUDY.format(form=form, decoding=json.dumps(decodings(form)))


@pytest.fixture(scope="module", params=known_forms())
def run(request, material, tmp_path_factory) -> tuple[str, Path]:
    """The form, and the folder of a finished run by the command line."""
    form: str = request.param
    (material / f"{form}.toml").write_text(study_text(form), encoding="utf-8")
    out = tmp_path_factory.mktemp("run") / form
    assert main(["run", str(material / f"{form}.toml"), "--out", str(out)]) == 0
    return form, out


def test_results_show_its_types(run):
    form, out = run
    results = read_results(out / "results.json")
    assert results["study"]["tasks"]["schema"] == "schemas/birds.toml"
    assert results["study"]["tasks"]["form"] == form
    assert results["cohorts"][0]["annotates"]["entities"] == ["Place", "Song-bird"]
    for method in results["methods"]:
        assert {e["decoding"] for e in method["evaluations"]} == set(decodings(form))
        for evaluation in method["evaluations"]:
            types = set(evaluation["scores"]["entities"]["strict"]["per_type"])
            assert types <= {"Song-bird", "Place"}
            assert evaluation["num_examples"] > 0
            if evaluation["decoding"] == "constrained" and form != "json":
                assert (evaluation["num_unparsed"], evaluation["num_ungrounded"]) == (0, 0)
    assert any(m["rounds"] and m["rounds"][-1]["validation"]["loss"] for m in results["methods"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Song-bird" in page
    assert "problem" not in page.split("</style>")[1].split('id="limits')[0].replace("t-problem", "")


def test_predictions_name_their_schema(run, material):
    _, out = run
    schema = load_schema(material / "schemas" / "birds.toml")
    files = list((out / "predictions").rglob("*.jsonl"))
    assert files
    for file in files:
        assert read_notes(file).header["schema"] == "birds"
        load_notes(file, schema)
    path = [str(material / "test.jsonl"), str(files[0]), "--schema", str(material / "schemas" / "birds.toml")]
    assert main(["evaluate", *path]) == 0


def test_the_manifest_holds_the_schema_and_extract_needs_nothing_else(run, material, tmp_path, capsys):
    form, out = run
    adapter = out / "adapters" / "fed_medlora"
    manifest = read_manifest(adapter)
    assert manifest["output_form"] == form
    assert (
        manifest["loss"]
        == {"markup": "lm+decision", "compact": "lm+decision", "json": "lm", "tags": "decision"}[form]
    )
    assert manifest["schema"]["definitions"]["Song-bird"] == {
        "long": "any bird that sings",
        "short": "singer",
    }
    assert "Song-bird (singer)" in manifest["prompts"]["ner"]
    (tmp_path / "n.txt").write_text("Six red robins in the hedge.", encoding="utf-8")
    for decoding in ("constrained", "free"):
        words = ["--adapter", str(adapter), "--model", str(material / "model"), "--decoding", decoding]
        code = main(["extract", str(tmp_path / "n.txt"), *words, "--out", str(tmp_path / "o.jsonl")])
        if decoding not in decodings(form):
            assert code == 2
            assert "trained in form tags, which generates nothing" in capsys.readouterr().err
            continue
        assert code == 0
        found = load_notes(tmp_path / "o.jsonl", load_schema(material / "schemas" / "birds.toml"))
        assert found.header["schema"] == "birds"
        assert [n.text for n in found.notes] == ["Six red robins in the hedge."]


def test_an_adapter_that_says_another_form_is_refused(run, material, tmp_path, capsys):
    form, out = run
    adapter = tmp_path / "adapter"
    import shutil

    shutil.copytree(out / "adapters" / "fed_medlora", adapter)
    manifest = json.loads((adapter / "fedmedlora.json").read_text())
    manifest["output_form"] = next(other for other in known_forms() if other != form)
    (adapter / "fedmedlora.json").write_text(json.dumps(manifest))
    (tmp_path / "n.txt").write_text("Six robins.", encoding="utf-8")
    words = ["--adapter", str(adapter), "--model", str(material / "model")]
    assert main(["extract", str(tmp_path / "n.txt"), *words]) == 2
    assert "trained with another prompts" in capsys.readouterr().err


@pytest.mark.parametrize("form", known_forms())
def test_what_is_trained_on_is_of_the_form(material, form):
    from fedmedlora.model.load import load_base_model
    from fedmedlora.prepare import prepare, terms_of

    study, _ = parse_study(study_text(form), folder=material)
    base = load_base_model(study.model_name(), precision="float32")
    prepared = prepare(study, terms_of(study, base), base.encoder)
    for examples in (*(site.examples for site in prepared.sites), prepared.validation):
        assert {e.example.form for e in examples} == {form}
        assert any(any(e.choices) for e in examples) == (form != "json")


def right(example) -> str:
    """The right JSON answer about ``note``'s sentences."""
    text = "".join(example.input)
    said = {"Song-bird": "robins", "Place": "reed", "how_many": "Four", "colour": "red"}
    found = [
        {"type": label, "text": words}
        for label, words in said.items()
        if label in example.labels and words in text
    ]
    return json.dumps(found)


@pytest.fixture
def answering(monkeypatch):
    """Every generated answer is the right one; what was asked, and how."""
    asked = []

    def generate(model, encoder, examples, *, under_grammar, **settings):
        asked.extend((example, under_grammar) for example in examples)
        return [right(example) for example in examples]

    monkeypatch.setattr(measure, "generate_texts", generate)
    return asked


def test_right_json_answers_score_one(material, tmp_path, answering):
    study = study_text("json").replace('"zero_shot", "fed_medlora", "fed_medlora_plus"', '"fed_medlora"')
    (material / "right.toml").write_text(study, encoding="utf-8")
    assert main(["run", str(material / "right.toml"), "--out", str(tmp_path / "out")]) == 0
    (method,) = read_results(tmp_path / "out" / "results.json")["methods"]
    assert len(method["evaluations"]) == 2
    for evaluation in method["evaluations"]:
        assert (evaluation["num_unparsed"], evaluation["num_ungrounded"]) == (0, 0)
        for kind, score in evaluation["scores"].items():
            assert score["strict"]["f1"] == 1.0, kind
    assert {under_grammar for _, under_grammar in answering} == {True, False}
    answering.clear()
    (tmp_path / "n.txt").write_text("Four red robins in the reed.", encoding="utf-8")
    words = [
        "--adapter",
        str(tmp_path / "out" / "adapters" / "fed_medlora"),
        "--model",
        str(material / "model"),
    ]
    assert main(["extract", str(tmp_path / "n.txt"), *words, "--out", str(tmp_path / "o.jsonl")]) == 0
    (found,) = read_notes(tmp_path / "o.jsonl").notes
    assert [(e.type, e.span) for e in found.entities] == [("Song-bird", ((9, 15),)), ("Place", ((23, 27),))]
    assert len(found.links) == 2
    assert {e.form for e, _ in answering} == {"json"}


def test_without_the_library_nothing_is_begun(material, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grammar.importlib.util, "find_spec", lambda name: None)
    (material / "json.toml").write_text(study_text("json"), encoding="utf-8")
    assert main(["run", str(material / "json.toml"), "--out", str(tmp_path / "out")]) == 2
    assert 'pip install "fedmedlora[json]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_only_with_the_schema_it_began_with(run, material, capsys):
    form, out = run
    words = ["run", str(material / f"{form}.toml"), "--out", str(out), "--resume"]
    assert main(words) == 0, "finished, and the same"
    file = material / "schemas" / "birds.toml"
    file.write_text(SCHEMA.replace("any bird", "each bird"), encoding="utf-8")
    capsys.readouterr()
    try:
        assert main(words) == 2
    finally:
        file.write_text(SCHEMA, encoding="utf-8")
    assert "the run in it differs in files" in capsys.readouterr().err


def test_notes_of_another_schema_are_refused(material, tmp_path, capsys):
    study = study_text("markup").replace('schema = "schemas/birds.toml"', 'schema = "clinical"')
    (material / "wrong.toml").write_text(study, encoding="utf-8")
    assert main(["run", str(material / "wrong.toml"), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "garden.jsonl:1: the notes are in the schema 'birds', and they are read here in 'clinical'" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("schemas/bird.toml", "[tasks] schema: "),
        ("clincal", "there is no such file; give a schema's TOML file, or one of the names clinical"),
        ("garden.jsonl", "not TOML"),
    ],
)
def test_a_schema_that_is_none(material, named, message):
    study = study_text("markup").replace("schemas/birds.toml", named)
    (material / "none.toml").write_text(study, encoding="utf-8")
    with pytest.raises(ValueError, match=r"none\.toml: \[tasks\] schema: ") as error:
        load_study(material / "none.toml")
    assert message in str(error.value)
