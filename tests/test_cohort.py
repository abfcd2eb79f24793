"""A cohort reads as much of its test notes as the study says."""

from __future__ import annotations

from dataclasses import replace

from fedmedlora.cohort import prepare_cohort
from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.synthetic import synthesize
from fedmedlora.study_tables import Evaluation
from fedmedlora.tasks.training_set import num_sentences
from fedmedlora.terms import Terms

TERMS = Terms(seed=1, base_model="", tokenizer="", frame=("", ""), prompts="")


def test_passages_come_from_more_notes():
    found = NoteSet(synthesize("lakeside", 8, 1, "test"), {"synthetic": True})

    def cohort(**evaluation):
        return prepare_cohort(
            replace(TERMS, evaluation=Evaluation(**evaluation)), "lakeside", "external", found
        )

    whole, parts = cohort(max_sentences=12), cohort(max_sentences=12, passage_sentences=3)
    assert len(parts.notes) == 4 > len(whole.notes)
    assert all(num_sentences(note) >= 3 for note in parts.notes)
    assert whole.notes_hash() != parts.notes_hash()
    assert cohort().notes == found.notes
