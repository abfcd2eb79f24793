import copy

import pytest
from made_up_run import make_results

_MADE = make_results()


@pytest.fixture
def results():
    """A fresh copy that a test may change."""
    return copy.deepcopy(_MADE)


@pytest.fixture
def example():
    #       0         1         2         3         4
    #       0123456789012345678901234567890123456789012345
    text = "Denies severe chest pain; takes aspirin 81 mg."
    return {
        "cohort": "lakeside",
        "synthetic": True,
        "method": "Fed-MedLoRA+",
        "text": text,
        "gold": [
            ("problem", 14, 24),
            ("severity", 7, 13),
            ("negation", 0, 6),
            ("drug", 32, 39),
            ("strength", 40, 45),
        ],
        "predicted": [("problem", 7, 24), ("severity", 7, 13), ("drug", 32, 39), ("test", 26, 31)],
    }
