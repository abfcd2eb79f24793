import random

import pytest

from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.split import split, split_by_part

NOTHING = Annotates(frozenset(), frozenset())


def note(note_id: str, text: str = "", group: str = "", part: str = "") -> Note:
    return Note(note_id, text, (), (), (), NOTHING, group, {"part": part} if part else {})


def test_shares_are_of_notes() -> None:
    parts, report = split([note(f"n{i}", f"text {i}") for i in range(10)], {"train": 0.8, "test": 0.2}, 0)
    assert report.num_notes == {"train": 8, "test": 2}
    assert report.num_blocks == 10
    assert sorted(n.id for part in parts.values() for n in part) == [f"n{i}" for i in range(10)]


def test_copies_tie_groups_together_and_are_reported() -> None:
    notes = [
        note("a", "same  text\n", "p1"),
        note("b", "sametext", "p2"),  # a copy but for white space: ties p1 to p2
        note("c", "other", "p2"),
        note("d", "alone", "p3"),
        note("e", "alone too"),
        note("f", "third"),
    ]
    for seed in range(20):
        parts, report = split(notes, {"train": 0.5, "test": 0.5}, seed)
        side = {n.id: name for name, part in parts.items() for n in part}
        assert side["a"] == side["b"] == side["c"]
        assert report.duplicates == (("a", "b"),)
        assert report.num_blocks == 4  # abc, d, e, f


def test_order_of_input_does_not_matter_and_the_seed_does() -> None:
    notes = [note(f"n{i:02}", f"text {i}") for i in range(40)]
    shuffled = random.Random(5).sample(notes, len(notes))
    fractions = {"train": 0.5, "test": 0.5}
    assert split(notes, fractions, 1) == split(shuffled, fractions, 1)
    assert split(notes, fractions, 1) != split(notes, fractions, 2)


def test_notes_without_text_are_no_copies() -> None:
    _, report = split([note("a"), note("b", " ")], {"x": 0.5, "y": 0.5}, 0)
    assert report.duplicates == ()


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 1.0, "b": 0.0}])
def test_fractions_must_be_positive_and_sum_to_one(fractions: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="together they must be 1"):
        split([note("a")], fractions, 0)


def test_an_empty_part_is_refused() -> None:
    told = (
        "'test' would be empty: copies of one text and notes of one patient go to one part, so the 2 notes "
    )
    with pytest.raises(ValueError, match=told + "are dealt out as 1, which is too few for its share of 0.5"):
        split([note("a", "x", "p"), note("b", "y", "p")], {"train": 0.5, "test": 0.5}, 0)
    with pytest.raises(ValueError, match=r"'test' would be empty: 2 notes are too few for its share of 0\.2"):
        split([note("a", "x"), note("b", "y")], {"train": 0.8, "test": 0.2}, 0)
    with pytest.raises(ValueError, match=r"'test' would be empty: 1 note is too few"):
        split([note("a", "x")], {"train": 0.5, "test": 0.5}, 0)
    with pytest.raises(ValueError, match="would be empty"):
        split([], {"train": 1.0}, 0)


def test_an_id_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' occurs twice"):
        split([note("a", "x"), note("a", "y")], {"train": 1.0}, 0)


def test_given_parts_stay_except_that_copies_are_brought_together() -> None:
    notes = [
        note("1", "a", part="train"),
        note("2", "b", part="train"),
        note("3", "b", part="test"),
        note("4", "c", part="test"),
    ]
    notes.append(note("5", "d", part="train"))
    parts, report = split_by_part(notes)
    assert [n.id for n in parts["train"]] == ["1", "2", "3", "5"]
    assert [n.id for n in parts["test"]] == ["4"]
    assert report.moved == ("3",)
    with pytest.raises(ValueError, match="'x' has no meta 'part'"):
        split_by_part([note("x")])


def test_large_groups_are_in_every_part() -> None:
    """A patient with many notes may be tested on too, whatever the seed."""
    notes = [note(f"{g}-{i}", f"text {g} {i}", group=f"g{g}") for g in range(40) for i in range(1 + g % 8)]
    tested = set()
    for seed in range(4):
        parts, _ = split(notes, {"train": 0.8, "test": 0.2}, seed)
        tested |= {sum(n.group == other.group for n in notes) for other in parts["test"]}
    assert {6, 7, 8} <= tested
