import pytest

from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.synthetic import HOSPITALS, synthesize
from fedmedlora.tasks.training_set import sample_examples, training_set

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
