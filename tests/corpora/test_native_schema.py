"""docs/own-schema.md: a corpus in its native labels gives the counts that its documentation states."""

import os
import re
from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.jsonl import NoteSet, write_notes
from fedmedlora.corpora.load import load_notes
from fedmedlora.corpora.mapping import load_mapping
from fedmedlora.corpora.note import Note
from fedmedlora.corpora.schema import load_schema
from fedmedlora.corpora.stats import stats
from fedmedlora.tasks.training_set import training_set

ROOT = Path(os.environ.get("FEDMEDLORA_CORPORA", Path(__file__).parents[3] / "shared" / "corpora"))
PAGE = Path(__file__).parents[2] / "docs" / "own-schema.md"

# Spans per label, from the README of the corpora.
ENTITIES = {
    **{"Sign_symptom": 3382, "Disease_disorder": 1362, "Diagnostic_procedure": 4598},
    **{"Therapeutic_procedure": 1036, "Medication": 1080, "Clinical_event": 626, "Activity": 107},
    **{"Date": 735, "Age": 206, "Sex": 191, "History": 392, "Family_history": 81},
}
MODIFIERS = {
    **{"Biological_structure": 2953, "Detailed_description": 2920, "Lab_value": 2848, "Severity": 376},
    **{"Dosage": 361, "Administration": 175, "Frequency": 76, "Nonbiological_location": 356},
}
# Of the links: those that the shipped mapping has under its own names, by the README of the corpora.
LINKS = {
    "Diagnostic_procedure.Lab_value": 2747,
    "Medication.Dosage": 354,
    "Medication.Administration": 179,
    "Medication.Frequency": 20,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's schema and mapping, as a reader of it would save them."""
    root = tmp_path_factory.mktemp("native")
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (schema,) = [b for b in blocks if 'name = "maccrobat"' in b]
    (mapping,) = [b for b in blocks if 'name = "maccrobat-native"' in b]
    (root / "maccrobat.toml").write_text(schema, encoding="utf-8")
    (root / "maccrobat-native.toml").write_text(mapping, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def corpus(folder: Path) -> NoteSet:
    if not (ROOT / "maccrobat2020").is_dir():
        pytest.skip("real corpora are not here: maccrobat2020")
    mapping = load_mapping(folder / "maccrobat-native.toml")
    return convert("brat", ROOT / "maccrobat2020", mapping=mapping)


def test_the_page_holds_what_the_test_counts(folder: Path) -> None:
    schema = load_schema(folder / "maccrobat.toml")
    assert set(schema.entities) == set(ENTITIES)
    assert set(schema.modifiers) == set(MODIFIERS)
    mapping = load_mapping(folder / "maccrobat-native.toml")
    assert mapping.annotates.entities == set(ENTITIES)
    assert mapping.annotates.pairs == set(schema.pair_names())


@pytest.mark.corpora
def test_counts_by_native_label(corpus: NoteSet, folder: Path) -> None:
    found = stats(corpus, load_schema(folder / "maccrobat.toml"))
    assert found["num_notes"] == 200
    assert found["entities"] == pytest.approx(ENTITIES, rel=0.003)
    assert found["modifiers"] == pytest.approx(MODIFIERS, rel=0.003)
    assert {pair: found["links"][pair] for pair in LINKS} == pytest.approx(LINKS, rel=0.003)
    links = found["links"]
    problems = ("Sign_symptom", "Disease_disorder")  # what the shipped mapping folds into one type
    assert sum(links[f"{p}.Biological_structure"] for p in problems) == pytest.approx(1802, rel=0.003)
    assert sum(links[f"{p}.Severity"] for p in problems) == pytest.approx(352, rel=0.003)
    num_not_in_schema = sum(n for reason, n in found["skipped"].items() if "no pair of the schema" in reason)
    assert num_not_in_schema > 200, "what the schema has no pair for is counted"


@pytest.mark.corpora
def test_written_read_and_asked_for(corpus: NoteSet, folder: Path, tmp_path: Path) -> None:
    schema = load_schema(folder / "maccrobat.toml")
    write_notes(tmp_path / "m.jsonl", corpus.notes, header=corpus.header)
    assert load_notes(tmp_path / "m.jsonl", schema).notes == corpus.notes
    with pytest.raises(ValueError, match="the notes are in the schema 'maccrobat'"):
        load_notes(tmp_path / "m.jsonl")
    some: tuple[Note, ...] = corpus.notes[:3]
    rendered = training_set(some, schema, prompt_set="short")
    assert {e.task for of in rendered.examples.values() for e in of} == {"ner", "modifiers"}
    assert "Sign_symptom (symptom, sign or finding)" in rendered.examples["ner"][0].instruction
