import pytest

from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.synthetic import HOSPITALS, synthesize
from fedmedlora.tasks.training_set import has_answer, sample_examples, training_set

FOUND = training_set(synthesize(HOSPITALS[0], 4, 0, "train"), CLINICAL, prompt_set="short")


def drawn(num_ner: int, num_modifiers: int, num: int, share: float | None) -> tuple[int, int]:
    chosen = sample_examples(
        {"ner": FOUND.examples["ner"][:num_ner], "modifiers": FOUND.examples["modifiers"][:num_modifiers]},
        num=num,
        modifier_share=share,
        seed=1,
        name="a",
    )
    assert len({e.id + e.task for e in chosen}) == len(chosen)
    tasks = [e.task for e in chosen]
    return tasks.count("ner"), tasks.count("modifiers")


@pytest.mark.parametrize(
    ("sizes", "num", "share", "expected"),
    [
        ((20, 20), 10, 0.4, (6, 4)),
        ((20, 20), 0, None, (20, 20)),  # 0: all
        ((20, 10), 15, None, (10, 5)),  # natural
        ((20, 3), 10, 0.5, (7, 3)),  # too few of one task: all of them, and the other fills up
        ((0, 20), 0, 0.5, (0, 20)),  # one task alone: the share means nothing
        ((20, 0), 8, 0.5, (8, 0)),
        ((0, 0), 8, 0.5, (0, 0)),
    ],
)
def test_sample(sizes, num, share, expected):
    assert drawn(*sizes, num, share) == expected


def shares(pool, share, *, ner=0, num=0):
    """(examples that name something, examples that do not) out of ``pool``."""
    chosen = sample_examples(
        {"ner": FOUND.examples["ner"][:ner], "modifiers": pool},
        num=num,
        modifier_share=None,
        answered_share=share,
        seed=1,
        name="a",
    )
    asked = [e for e in chosen if e.task == "modifiers"]
    assert len(chosen) - len(asked) == ner, "what finds entities is left alone"
    named = sum(has_answer(e) for e in asked)
    return named, len(asked) - named


def test_what_names_something_is_told_from_what_does_not():
    by_answer = {
        answer: [e for e in FOUND.examples["modifiers"] if has_answer(e) == answer] for answer in (0, 1)
    }
    assert all(e.target == tuple(piece.form for piece in e.pieces) for e in by_answer[0])
    assert all(e.target != tuple(piece.form for piece in e.pieces) for e in by_answer[1])
    assert by_answer[0]
    assert by_answer[1]


def test_the_least_share_of_examples_with_something_to_find():
    named = [e for e in FOUND.examples["modifiers"] if has_answer(e)]
    empty = [e for e in FOUND.examples["modifiers"] if not has_answer(e)]
    pool = [*empty[:12], *named[:4]]
    assert shares(pool, None) == (4, 12)
    assert shares(pool, 0.5, ner=3) == (4, 4)
    assert shares(pool, 0.3) == (4, 9)  # 4 / 13 = 0.31; with one more, 4 / 14 = 0.29
    assert shares(pool, 0.2) == (4, 12)  # it is higher as it is: nothing is left out
    assert shares(pool, 1.0) == (4, 0)
    assert shares(empty[:5], 0.5) == (0, 5)  # none has anything: all of them
    assert shares([], 0.5) == (0, 0)
    # Which are left out is drawn, and drawn the same way again.
    assert shares(pool, 0.5, num=6)[0] in range(1, 5)
