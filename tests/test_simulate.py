"""Sites as a study describes them, before anything is trained."""

from __future__ import annotations

import pytest

from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.simulate import dealt, shaped
from fedmedlora.study import parse_study
from fedmedlora.study_tables import Site

PROBLEMS = Annotates(frozenset(["problem"]), frozenset())


def notes(*texts: str) -> NoteSet:
    return NoteSet(tuple(Note(f"n{i}", text, (), (), (), PROBLEMS) for i, text in enumerate(texts)), {})


@pytest.mark.parametrize(("most", "num"), [(1, 1), (2, 2), (3, 2), (9, 2)])
def test_no_more_notes_than_there_are_with_copies_counted_once(most, num):
    site = Site("a", "a.jsonl", max_notes=most)
    found = shaped(site, notes("Cough.", "Fever.", "Cough."), CLINICAL, seed=1)
    assert len({note.text for note in found.notes}) == len(found.notes) == num


def study(first: str, second: str = "b"):
    text = 'name = "s"\nmethods = ["fed_medlora"]\n[federation]\nnum_sites = 2\n{}'
    sites = "".join(f'[[sites]]\nname = "{name}"\ntrain = "x.jsonl"\n' for name in (first, second))
    return parse_study(text.format(sites))[0]


@pytest.mark.parametrize("name", ["site-1", "Site-2"])
def test_a_simulated_site_with_the_name_of_another_is_refused_before_it_trains(name):
    """Results hold one entry a name: the run would be refused after all of its work."""
    train = {name: notes("Cough.", "Fever."), "b": notes("Rash.", "Pain.")}
    with pytest.raises(ValueError, match=r"\[federation\]: a simulated site is called 'site-[12]'"):
        dealt(study(name), train)
    assert list(dealt(study("a"), {"a": train[name], "b": train["b"]})) == ["site-1", "site-2"]


def test_a_simulated_site_whose_name_would_be_too_long_is_refused_before_it_trains():
    name = "a" * 63
    with pytest.raises(ValueError, match=r"\[federation\]: site name 'aaa"):
        dealt(
            parse_study(
                'name = "s"\nmethods = ["fed_medlora"]\n[federation]\nnum_sites = 2\ndeal = "cohort"\n'
                f'[[sites]]\nname = "{name}"\ntrain = "x.jsonl"\n'
            )[0],
            {name: notes("Cough.", "Fever.")},
        )
