"""The shipped mappings give the counts that the corpora's own documentation states."""

import os
from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.jsonl import NoteSet, read_notes, write_notes
from fedmedlora.corpora.note import Annotates
from fedmedlora.corpora.split import split, split_by_part
from fedmedlora.corpora.stats import stats

pytestmark = pytest.mark.corpora
ROOT = Path(os.environ.get("FEDMEDLORA_CORPORA", Path(__file__).parents[3] / "shared" / "corpora"))

NUM_NOTES = {"kiwi_mtsamples": 144, "maccrobat2020": 200, "chia": 2000, "phee": 4827,
             "lct": 1006, "bc5cdr": 1500, "ncbi_disease": 793, "neurotrialner": 1093}  # fmt: skip
ENTITIES = {  # problem, treatment, drug, test
    "kiwi_mtsamples": (6214, 968, 1197, 2315),
    "maccrobat2020": (4744, 1036, 1080, 4598),
    "chia": (12039, 3341, 3801, 3945),
    "phee": (6652, 0, 6016, 0),
    "lct": (7064, 2496, 1412, 1758),
    "bc5cdr": (12850, 0, 15935, 0),
    "ncbi_disease": (6892, 0, 0, 0),  # one of them differs from the text at its offsets
    "neurotrialner": (4960, 2963, 1624, 0),
}
LINKS = {
    "kiwi_mtsamples": {
        **{"problem.negation": 2251, "problem.bodyloc": 1536, "test.labvalue": 1264, "drug.frequency": 421},
        **{"problem.course": 324, "drug.strength": 319, "drug.route": 190, "problem.temporal": 162},
        **{"problem.severity": 151, "test.temporal": 123, "drug.dosage": 101, "drug.form": 96},
        **{"treatment.temporal": 88, "problem.uncertain": 81, "drug.temporal": 41, "drug.duration": 38},
        **{"problem.condition": 37, "problem.subject": 36, "drug.negation": 23, "test.negation": 18},
        **{"treatment.negation": 17},
    },
    "maccrobat2020": {
        **{"test.labvalue": 2747, "problem.bodyloc": 1802, "drug.dosage": 354, "problem.severity": 352},
        **{"drug.route": 179, "problem.temporal": 51, "drug.frequency": 20, "drug.duration": 16},
        **{"treatment.temporal": 8, "test.temporal": 6, "problem.subject": 4, "drug.temporal": 3},
    },
    "chia": {
        **{"test.labvalue": 2844, "problem.temporal": 1323, "treatment.temporal": 792},
        **{"problem.severity": 652, "drug.temporal": 532, "problem.negation": 380, "test.temporal": 370},
        **{"problem.course": 240, "treatment.negation": 149, "drug.negation": 125, "drug.dosage": 118},
        **{"drug.frequency": 37, "drug.duration": 35, "problem.uncertain": 31, "test.negation": 30},
        **{"drug.route": 29, "problem.subject": 17},
    },
    "phee": {
        **{"drug.route": 734, "drug.dosage": 641, "problem.uncertain": 619, "problem.severity": 428},
        **{"drug.temporal": 413, "drug.duration": 326, "drug.frequency": 165, "problem.negation": 58},
    },
    "lct": {
        **{"test.labvalue": 998, "problem.temporal": 990, "treatment.temporal": 871, "drug.temporal": 461},
        **{"problem.severity": 437, "problem.negation": 254, "treatment.negation": 192},
        **{"problem.uncertain": 183, "problem.course": 156, "test.temporal": 143, "drug.negation": 56},
        **{"problem.subject": 53, "drug.dosage": 49, "test.negation": 45, "drug.duration": 35},
    },
    "bc5cdr": {},
    "ncbi_disease": {},
    "neurotrialner": {},
}


def source(name: str) -> Path:
    if not (ROOT / name).is_dir():
        pytest.skip(f"real corpora are not here: {name}")
    return ROOT / name


@pytest.fixture(scope="module", params=sorted(NUM_NOTES))
def corpus(request: pytest.FixtureRequest) -> tuple[str, NoteSet]:
    name: str = request.param
    return name, convert(name, source(name))


def test_counts(corpus: tuple[str, NoteSet]) -> None:
    name, notes = corpus
    found = stats(notes)
    assert found["num_notes"] == NUM_NOTES[name]
    assert tuple(found["entities"].values()) == pytest.approx(ENTITIES[name], rel=0.003)
    links = {pair: count for pair, count in found["links"].items() if count}
    assert links == pytest.approx(LINKS[name], rel=0.01)


def test_spans_lie_in_their_notes_and_ids_are_unique(corpus: tuple[str, NoteSet]) -> None:
    _, notes = corpus
    assert len({n.id for n in notes.notes}) == len(notes.notes)
    for note in notes.notes:
        mentions = (*note.entities, *note.modifiers)
        assert len({m.id for m in mentions}) == len(mentions)
        for mention in mentions:
            assert mention.end <= len(note.text)
            assert note.text[slice(*mention.span[0])].strip()


def test_jsonl_gives_the_same_notes_back(corpus: tuple[str, NoteSet], tmp_path: Path) -> None:
    _, notes = corpus
    write_notes(tmp_path / "a.jsonl", notes.notes, header=notes.header)
    found = read_notes(tmp_path / "a.jsonl")
    assert found.notes == notes.notes
    assert found.header["annotates"] == notes.header["annotates"]
    assert stats(found) == stats(notes)


def test_brat_gives_the_same_notes_back(tmp_path: Path) -> None:
    from fedmedlora.corpora.writers.brat import write_brat

    notes = convert("maccrobat2020", source("maccrobat2020")).notes
    write_brat(notes, tmp_path)
    for note, again in zip(
        sorted(notes, key=lambda n: n.id),
        sorted(convert("brat", tmp_path).notes, key=lambda n: n.id),
        strict=True,
    ):
        assert (note.id, note.text) == (again.id, again.text)
        for before, after in ((note.entities, again.entities), (note.modifiers, again.modifiers)):
            assert [(m.type, m.span) for m in before] == [(m.type, m.span) for m in after]
        assert len(note.links) == len(again.links)
        assert isinstance(again.annotates, Annotates)


def test_the_raw_folder_and_the_archive_do_as_well() -> None:
    whole = convert("chia", source("chia"))
    for inside in ("raw", "raw/chia_without_scope.zip"):
        found = convert("chia", source("chia") / inside)
        assert found.notes == whole.notes


def test_copies_stay_on_one_side() -> None:
    notes = convert("kiwi_mtsamples", source("kiwi_mtsamples")).notes
    parts, report = split_by_part(notes)
    assert len(report.duplicates) == 4
    assert len(report.moved) == 2
    assert sum(map(len, parts.values())) == 144
    parts, _ = split(notes, {"train": 0.8, "test": 0.2}, 0)
    side = {n.id: name for name, part in parts.items() for n in part}
    assert all(len({side[i] for i in copies}) == 1 for copies in report.duplicates)


def test_phee_keeps_abstracts_together() -> None:
    notes = convert("phee", source("phee")).notes
    assert len({n.group for n in notes}) == 1838
    parts, _ = split(notes, {"train": 0.8, "test": 0.2}, 0)
    assert not {n.group for n in parts["train"]} & {n.group for n in parts["test"]}


def test_every_corpus_there_has_a_mapping() -> None:
    source("chia")
    assert set(NUM_NOTES) == {p.name for p in ROOT.iterdir() if p.is_dir()} - {"mtsamples_raw"}


def test_lct_to_the_last_count() -> None:
    found = stats(convert("lct", source("lct")))
    assert tuple(found["entities"].values()) == ENTITIES["lct"]
    links = {pair: count for pair, count in found["links"].items() if count}
    assert links == LINKS["lct"]


def test_the_abstract_that_is_there_twice_is_one_group() -> None:
    notes = convert("ncbi_disease", source("ncbi_disease")).notes
    assert len({note.group for note in notes}) == 792
    assert {note.meta["part"] for note in notes} == {
        "NCBItrainset_corpus", "NCBIdevelopset_corpus", "NCBItestset_corpus",
    }  # fmt: skip


def test_what_bc5cdr_cannot_say_is_counted() -> None:
    found = convert("bc5cdr", source("bc5cdr"))
    assert found.header["skipped"] == {"relation CID: links concepts, not mentions": 3116}
