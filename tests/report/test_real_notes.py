"""The page about real notes says what its results say, and shows no note."""

from pathlib import Path

import pytest

from fedmedlora.report.results import read_results
from fedmedlora.study import parse_study

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = read_results(DOCS / "real-notes" / "results.json")
PAGE = (DOCS / "real-notes.md").read_text(encoding="utf-8")
COHORTS = [cohort["name"] for cohort in RESULTS["cohorts"]]


@pytest.mark.parametrize("kind", ["entities", "modifiers_gold", "modifiers_end_to_end"])
def test_every_number_of_the_tables_is_in_the_results(kind):
    assert len(RESULTS["methods"]) == 6
    for method in RESULTS["methods"]:
        for decoding in {e["decoding"] for e in method["evaluations"]}:
            scores = {
                e["cohort"]: e["scores"][kind] for e in method["evaluations"] if e["decoding"] == decoding
            }
            cells = [f"{scores[c]['strict']['f1']:.2f} / {scores[c]['lenient']['f1']:.2f}" for c in COHORTS]
            label = method["label"] + (", free" if decoding == "free" else "")
            assert f"| {label} | {' | '.join(cells)} |" in PAGE


def as_then(now, then):
    """``now`` without keys that came later: they have their defaults, which change nothing."""
    if isinstance(now, list):
        return [as_then(*pair) for pair in zip(now, then, strict=True)]
    return {key: value for key, value in now.items() if key in then}


def test_the_study_file_is_the_one_that_ran():
    study, notices = parse_study((DOCS / "real-notes" / "study.toml").read_text(encoding="utf-8"))
    assert notices == ()
    ran = RESULTS["study"]
    for table in ("model", "adapter", "training", "validation", "evaluation", "sites", "cohorts"):
        assert as_then(study.to_dict()[table], ran[table]) == ran[table], table
    rules = [settings["rules"]["fed_medlora_plus"] for settings in (study.to_dict(), ran)]
    assert as_then(*rules) == rules[1]
    assert (study.name, study.seed, list(study.methods)) == (ran["name"], ran["seed"], ran["methods"])


def test_no_cohort_of_it_is_synthetic_so_the_report_shows_no_sentence():
    assert not any(cohort["synthetic"] for cohort in RESULTS["cohorts"])
    report = (DOCS / "real-notes" / "report.html").read_text(encoding="utf-8")
    assert 'id="examples"' not in report
