"""The default schema's prompts do not move: an adapter means nothing without the words it was asked with."""

import hashlib
import json

import pytest

from fedmedlora.corpora.note import Annotates
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.tasks.prompts import SCOPES, instruction

EVERYTHING = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))
SOME = Annotates(frozenset({"drug", "problem"}), frozenset({"problem.bodyloc", "drug.form", "drug.route"}))
# sha256 of the prompts as they were when the first adapters were trained.
GOLDEN = {
    "everything": "d3cc655b01eca5f27472358b57c35fe5b7e52c131b463de6d92cadea7a438466",
    "some": "04730a5613125f6af93f73ce88891451cea3d438f5bf4c1b336a8e8247de9d9c",
}


def prompts_hash(annotates: Annotates) -> str:
    found = [
        instruction(task, CLINICAL, annotates, prompt_set=prompt_set, scope=scope)
        for task in ("ner", "modifiers")
        for prompt_set in ("study", "short")
        for scope in SCOPES
    ]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


@pytest.mark.parametrize(("name", "annotates"), [("everything", EVERYTHING), ("some", SOME)])
def test_word_for_word(name, annotates):
    assert prompts_hash(annotates) == GOLDEN[name]


def test_the_schema_itself():
    record = [CLINICAL.name, CLINICAL.entities, CLINICAL.modifiers, CLINICAL.pair_names()]
    assert (
        hashlib.sha256(json.dumps(record).encode()).hexdigest()
        == "a628090f6ec274c678f35bf55fa4c540d8a050dd316a90e00f55a9375f3bfd6b"
    )
