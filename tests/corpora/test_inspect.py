from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.inspect import guess_type, inspect, mapping_toml
from fedmedlora.corpora.mapping import parse_mapping
from fedmedlora.corpora.stats import stats

ANNOTATION = (
    "T1\tDisease 3 7\tpain\n"
    "T2\tNegated 0 2\tno\n"
    'T3\tOdd"é 0 2\tno\n'
    "T4\tMedication 8 12\tdrug\n"
    "T5\tDose 13 14\t5\n"
    "R1\tcue_of Arg1:T2 Arg2:T1\n"
    "R2\tNEXT Arg1:T1 Arg2:T4\n"
    "E1\tMedication:T4 HasDose:T5\n"
)


def write(folder: Path, annotation: str = ANNOTATION) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "n.txt").write_text("no pain drug 5")
    (folder / "n.ann").write_text(annotation, encoding="utf-8")
    (folder / "m.txt").write_text("nothing")
    return folder


def test_a_guessed_mapping_converts_the_folder_it_was_guessed_from(tmp_path: Path) -> None:
    found = inspect([write(tmp_path / "one"), write(tmp_path / "x" / "one")])
    assert [(f.site, f.num_notes, f.num_annotated_notes, f.num_spans) for f in found.folders] == [
        ("one", 2, 1, 5),
        ("one-2", 2, 1, 5),
    ]
    assert found.labels["Disease"] == 2
    assert found.relations["cue_of", "Negated", "Disease"] == 2
    text = mapping_toml(found)
    assert "2 spans" in text  # the label without a guess, with its count
    mapping = parse_mapping(text, "mapping.toml")
    counts = stats(convert("brat", tmp_path / "one", mapping=mapping))
    assert counts["entities"] == {"problem": 1, "treatment": 0, "drug": 1, "test": 0}
    assert {k: v for k, v in counts["links"].items() if v} == {"problem.negation": 1, "drug.dosage": 1}
    assert counts["skipped"] == {'label Odd"é: ignored': 1, "relation NEXT: ignored": 1}


def test_nothing_to_guess_is_said(tmp_path: Path) -> None:
    text = mapping_toml(inspect([write(tmp_path / "a", "T1\tXyz 3 7\tpain\n")]))
    assert "has to be filled in" in text
    with pytest.raises(ValueError, match=r"no \[\[entity\]\] rule"):
        parse_mapping(text, "mapping.toml")


@pytest.mark.parametrize(
    ("label", "guess"),
    [
        ("problem", "problem"),
        ("PROBLEMS", "problem"),
        ("Sign_symptom", "problem"),
        ("Diagnosis", "problem"),
        ("Lab-Test", "test"),
        ("Therapeutic_procedure", "treatment"),
        ("Medications", "drug"),
        ("dose", "dosage"),
        ("Reference_Range", "reference_range"),
        ("referencerange", "reference_range"),
        ("Xyz", ""),
        ("_", ""),
    ],
)
def test_guesses(label: str, guess: str) -> None:
    assert guess_type(label) == guess


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one folder"):
        inspect([])
    folder = write(tmp_path / "a")
    with pytest.raises(ValueError, match="is given twice"):
        inspect([folder, folder / ".." / "a"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no \.txt file"):
        inspect([folder, tmp_path / "empty"])
