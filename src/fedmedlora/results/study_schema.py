"""What the results file of a study of many runs holds, as data: every key with its type, unit and meaning.

A study is run once per *arm* and seed. An arm is a named change of the study's settings; the arm ``main``
is the study as it stands. The file holds every run's record and what was computed over all of them.
``study_check.py`` checks against it and ``reference_page`` makes the tables of ``docs/study-results.md``.
"""

from __future__ import annotations

from dataclasses import replace

from fedmedlora.results.nodes import Many, Named, Node, Table, Value, tables_page
from fedmedlora.results.schema import COHORT, MACHINE, METHOD, MODEL, SCORE_KINDS

FORMAT = "fedmedlora-study-results"
VERSION = 1
MAIN = "main"
OVERS = ("site", "external", "new-site")  # the kinds of cohorts that a mean can be over
COHORT_PREFIX = "cohort:"  # of ``over`` in a comparison on one cohort alone

_PAGE = "results-schema.md#resultsjson"
_RUN_COHORT = replace(COHORT, title="as in results.json", page=_PAGE)
_RUN_METHOD = replace(METHOD, title="as in results.json", page=_PAGE)
_MODEL = replace(MODEL, title="as in results.json", page=_PAGE)

_DECODING = Value("text", "how answers were read, as in an evaluation", choices=("constrained", "free"))
_KIND = Value("text", "kind of score, as in an evaluation", choices=tuple(SCORE_KINDS))
_CRITERION = Value("text", "boundaries must be the same, or overlap", choices=("strict", "lenient"))
_OVER = Value("text", "the cohorts of this kind, each counting the same", choices=OVERS)
_F1 = Value("share", "mean over the seeds", null="undefined for some seed")
_BY_SEED = Many(
    Value("share", "F1 of one seed", null="undefined"),
    "one per seed of the arm, in the order of its runs; `f1` is their mean",
)


def _interval(of: str, drawn: str, kind: str = "share") -> Many:
    return Many(
        Value("share" if kind == "share" else "number", "low, then high"),
        f"95% interval of `{of}`, by bootstrap over {drawn}",
        length=2,
        null=f"not computed, `{of}` is null, or in a cohort fewer than six notes have anything to count",
    )


ARM = Table(
    {
        "name": Value("text", f"unique; `{MAIN}`: the study as it stands"),
        "title": Value("text", "how the report calls it"),
        "group": Value("text", 'arms of one group share a section of the report; "": none'),
        "x": Value("number", "where a figure of the group puts it", null="it has no place on an axis"),
        "x_label": Value("text", 'what `x` is, such as "share of labels corrupted"; ""'),
        "changes": Value("settings", "the settings that differ, as written in the study file"),
        "cohorts": Many(_RUN_COHORT, "sources of notes, in the order of the study"),
        "num_sites": Value("count", "sites that train"),
    },
    "one named change of the study",
)

RUN = Table(
    {
        "arm": Value("text", "name of an arm"),
        "seed": Value("count", "one of `seeds`; a pair of arm and seed occurs once"),
        "folder": Value("text", "the run's folder, relative to this file"),
        "methods": Many(_RUN_METHOD, "in the order of the study; `adapter` is relative to `folder`"),
    },
    "the record of one run",
)

SCORES = Table(
    {
        "arm": Value("text", "name of an arm"),
        "method": Value("text", "name of a method of the arm's runs"),
        "cohort": Value("text", "name of a cohort of the arm"),
        "decoding": _DECODING,
        "kind": _KIND,
        "criterion": _CRITERION,
        "f1": _F1,
        "precision": Value("share", "mean over the seeds", null="undefined for some seed"),
        "recall": Value("share", "mean over the seeds", null="undefined for some seed"),
        "f1_by_seed": _BY_SEED,
        "interval": _interval("f1", "seeds and notes"),
        "per_type": Named(
            "type, or pair such as `problem.negation`",
            Table(
                {
                    "f1": Value("share", "mean over the seeds", null="undefined for some seed"),
                    "num_gold": Value("count", "gold items of one seed's test notes"),
                },
                "this type alone",
            ),
            "every type that was scored",
        ),
    },
    "one score on one cohort, over the seeds; its first six keys together occur once",
    title="scores",
)

MEANS = Table(
    {
        "arm": Value("text", "name of an arm"),
        "method": Value("text", "name of a method of the arm's runs"),
        "decoding": _DECODING,
        "kind": _KIND,
        "criterion": _CRITERION,
        "over": _OVER,
        "num_cohorts": Value("count", "cohorts of that kind with gold items"),
        "f1": _F1,
        "interval": _interval("f1", "seeds and notes"),
        "f1_by_seed": _BY_SEED,
        "worst_cohort": Value("text", "cohort with the lowest F1", null="`worst_f1` is null"),
        "worst_f1": Value("share", "its F1, mean over the seeds", null="no cohort has an F1"),
    },
    "the mean of a method's F1 over the cohorts of one kind; its first six keys together occur once",
    title="means",
)

COMPARISONS = Table(
    {
        "arm": Value("text", "name of an arm"),
        "decoding": _DECODING,
        "kind": _KIND,
        "criterion": _CRITERION,
        "over": Value("text", f"`site`, `external`, `new-site`, or `{COHORT_PREFIX}NAME`: one cohort"),
        "a": Value("text", "name of a method of the arm's runs"),
        "b": Value("text", "name of another"),
        "difference": Value("number", "F1 of `a` less F1 of `b`", null="one of them has no F1"),
        "interval": _interval("difference", "seeds and notes, both methods on the same draws", "number"),
        "p": Value("share", "two-sided, by a paired permutation test over notes", null="not tested"),
        "p_holm": Value(
            "share",
            "`p` after Holm's correction over all pairs of methods of the same arm, score and cohorts",
            null="not tested",
        ),
        "significant": Value("flag", "true: `p_holm` is below 0.05"),
    },
    "one method against another; its first seven keys together occur once",
    title="comparisons",
)

CALIBRATION = Table(
    {
        "arm": Value("text", "name of an arm"),
        "method": Value("text", "name of a method of the arm's runs"),
        "cohort": Value("text", "name of a cohort of the arm"),
        "num_predictions": Value("count", "predicted entities with a confidence, all seeds together"),
        "ece": Value("share", "expected calibration error over `bins`", null="nothing was predicted"),
        "bins": Many(
            Table(
                {
                    "low": Value("share", "confidence from here"),
                    "high": Value("share", "to here"),
                    "num": Value("count", "predictions; those of all bins add up to `num_predictions`"),
                    "mean_confidence": Value("share", "of the bin's predictions", null="`num` is 0"),
                    "share_right": Value("share", "those that match gold, strictly", null="`num` is 0"),
                },
                "one range of confidences",
            ),
            "in order",
        ),
        "average_precision": Value(
            "share", "area under the curve of precision over recall", null="there is no gold"
        ),
        "curve": Many(
            Table(
                {
                    "threshold": Value("share", "predictions with at least this confidence are kept"),
                    "precision": Value("share", "of those"),
                    "recall": Value("share", "of those"),
                },
                "one point",
            ),
            "precision and recall as predictions of less confidence are let in",
        ),
    },
    "how far a method's confidences can be believed; its first three keys together occur once",
    title="calibration",
)

_KEYS: dict[str, Node] = {
    "format": Value("text", "what this file is", choices=(FORMAT,)),
    "version": Value("positive", f"version of this schema: {VERSION}"),
    "name": Value("text", "title of the study"),
    "created_utc": Value("text", "end of the last run, ISO 8601, UTC"),
    "command": Many(Value("text", "one argument"), "the command; paths by last names"),
    "study": Value("settings", "all settings of the arm `main`, defaults filled in"),
    "environment": Table(dict(MACHINE), "where it ran"),
    "model": _MODEL,
    "seeds": Many(Value("count", "a seed"), "each once; at least one"),
    "arms": Many(ARM, f"in the order of the study; `{MAIN}` is one of them"),
    "runs": Many(RUN, "in any order"),
    "scores": Many(SCORES, "in any order"),
    "means": Many(MEANS, "in any order"),
    "comparisons": Many(COMPARISONS, "in any order"),
    "calibration": Many(CALIBRATION, "in any order"),
}
SCHEMA = Table(_KEYS, "the whole file", title="study-results.json")


def reference_page() -> str:
    """The tables of ``docs/study-results.md``, as Markdown: one section per titled table."""
    return tables_page((SCHEMA, SCORES, MEANS, COMPARISONS, CALIBRATION))
