import copy
import json

import pytest
from made_up_run import make_results
from made_up_study import make_study

_MADE = make_results()
_MADE_STUDY = make_study(seeds=(0, 1))
for _run in _MADE_STUDY["runs"]:  # the report of a study does not read these, and tests are faster without
    for _method in _run["methods"]:
        for _evaluation in _method["evaluations"]:
            _evaluation["scores"] = dict.fromkeys(_evaluation["scores"])
_STUDY_TEXT = json.dumps(_MADE_STUDY)  # read again faster than copied


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


@pytest.fixture(scope="session")
def made_study():
    """A study of many runs that no test changes: copying it takes a while."""
    return _MADE_STUDY


@pytest.fixture
def study():
    """A fresh copy that a test may change."""
    return json.loads(_STUDY_TEXT)
