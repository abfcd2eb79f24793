"""What another run may take over of an evaluation: nothing that reads differently."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedmedlora.cohort import Cohort
from fedmedlora.corpora.note import Annotates, Entity, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.evaluate_method import _key
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.measure import Form
from fedmedlora.methods import Method
from fedmedlora.model.load import BaseModel
from fedmedlora.tasks.few_shot import Shots

NOTE = Note(
    "n",
    "No rash.",
    (Entity("T1", "problem", ((3, 7),)),),
    (),
    (),
    Annotates(frozenset(["problem"]), frozenset()),
)
BASE = BaseModel("m", "h", None, None, torch.device("cpu"), 1, "bfloat16", "none", "")  # type: ignore[arg-type]


def key(*, base: BaseModel = BASE, value: float = 0.0, note: Note = NOTE, shots: Shots | None = None) -> str:
    """The key of one evaluation of a run that has no more than the key asks for."""
    run = SimpleNamespace(
        base=base,
        sites=SimpleNamespace(infos=()),
        study=SimpleNamespace(evaluation=SimpleNamespace(bootstrap=10)),
        terms=SimpleNamespace(draw_seed=lambda: 1),
        form=lambda decoding: Form(CLINICAL, decoding=decoding),
    )
    adapter = Adapter(
        {"q.lora_A.weight": np.ones((1, 2), "f4"), "q.lora_B.weight": np.full((2, 1), value, "f4")}
    )
    method = Method("zero_shot", "Zero-shot", None, run.sites, (), shots=shots)
    here = {"c": Cohort("c", "external", False, (note,))}
    found = _key(run, method, adapter, here, "c", "constrained")  # type: ignore[arg-type]
    assert found is not None
    return found


def other_types(note: Note) -> Note:
    return replace(note, annotates=Annotates(frozenset(["problem", "drug"]), frozenset()))


def shots(num: int = 1, note: Note = NOTE) -> Shots:
    return Shots(num, 1, (note,))


@pytest.mark.parametrize(
    "change",
    [
        {"base": replace(BASE, hash="other")},
        {"base": replace(BASE, precision="float32")},
        {"base": replace(BASE, device=torch.device("cuda"))},
        {"base": replace(BASE, quantization="nf4")},  # of the same files
        {"value": 1.0},
        {"note": other_types(NOTE)},
        {"shots": shots()},
    ],
)
def test_what_reads_differently_has_another_key(change):
    assert key(**change) != key()


def test_solved_examples_of_other_types_have_another_key():
    """Which notes show solved examples of a type depends on what they annotate, not on what they hold."""
    assert key(shots=shots()) == key(shots=shots())
    assert key(shots=shots(note=other_types(NOTE))) != key(shots=shots())
    assert key(shots=shots(2)) != key(shots=shots())
