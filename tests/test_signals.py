"""What an adapter is worth on validation notes: measured once, and again where anything in them differs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_study import make_study, short_note, write

from fedmedlora.experiment import run_study


@pytest.mark.parametrize("signal", ["loss", "f1"])
def test_a_known_signal_costs_what_it_cost_and_other_notes_have_another(material, tmp_path, signal):
    study = make_study(
        material, tmp_path / "study", methods=["fed_medlora_plus"], rounds=1, cohorts=(), evaluate=False,
        every_round=False,
    )  # fmt: skip
    # F1 is of whole notes: of one sentence alone, the loss's own sample would not see what else is in them.
    num = 1 if signal == "f1" else 0
    study = replace(study, validation=replace(study.validation, signal=signal, max_sentences=num))
    notes, shared = study.folder / study.validation.notes[0], tmp_path / "shared"
    note = replace(short_note(study.sites[0].name, 0, "validation", 7), modifiers=(), links=())
    write(notes, [note])

    def losses_and_seconds(out):
        ((method),) = run_study(study, tmp_path / out, shared=shared)["methods"]
        (only,) = method["rounds"]
        return [site["validation_loss"] for site in only["sites"]], only["validate_seconds"]

    def num_known():
        return len(list((shared / "signals").glob("*.json")))

    first, took = losses_and_seconds("first")
    assert num_known() == len(study.sites)
    again, told = losses_and_seconds("again")
    assert num_known() == len(study.sites)
    assert again == first
    assert told == pytest.approx(took, rel=0.1)

    for times, place in enumerate((0, len(note.entities) - 1), start=2):  # not in the same sentence
        corrected = list(note.entities)
        corrected[place] = replace(
            corrected[place], type="drug" if corrected[place].type != "drug" else "test"
        )
        write(notes, [replace(note, entities=tuple(corrected))])
        losses_and_seconds(f"corrected-{place}")
        assert num_known() == times * len(study.sites)
