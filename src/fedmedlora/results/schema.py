"""What ``results.json`` holds, as data: every key with its type, unit and meaning.

``check.py`` checks against it and ``reference_page`` turns it into the tables of
``docs/results-schema.md``, so that code and page cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedmedlora.results.nodes import Many, Named, Node, Table, Value, tables_page

FORMAT = "fedmedlora-results"
VERSION = 1

_SIX: dict[str, Node] = {
    "tp": Value("count", "matched pairs of a gold and a predicted item"),
    "fp": Value("count", "predicted items without a gold one"),
    "fn": Value("count", "gold items without a predicted one"),
    "precision": Value("share", "tp / (tp + fp)", null="nothing was predicted"),
    "recall": Value("share", "tp / (tp + fn)", null="there is no gold"),
    "f1": Value("share", "2tp / (2tp + fp + fn)", null="tp, fp and fn are all 0"),
}

NUMBERS = Table(
    {
        **_SIX,
        "macro_f1": Value(
            "share", "mean F1 of the types that have gold or predictions", null="no type has either"
        ),
        "interval": Many(
            Value("share", "low, then high"),
            "95% interval of `f1`, by bootstrap over notes",
            length=2,
            null="not computed, or fewer than six notes have gold or predictions",
        ),
        "per_type": Named(
            "type, or pair such as `problem.negation`",
            Table(_SIX, "the first six numbers, for this type alone"),
            "every type that was scored; their counts add up to the counts above",
        ),
    },
    "micro-averaged numbers of one criterion",
    title="numbers",
)

SCORE = Table(
    {"strict": NUMBERS, "lenient": NUMBERS},
    "strict: same type and same boundaries; lenient: same type and at least one shared character",
    title="score",
    null="not measured",
)

SCORE_KINDS: Mapping[str, str] = {
    "entities": "named entities",
    "modifiers_gold": "modifiers as typed spans, asked for with the gold entities",
    "links_gold": "entity, modifier type and modifier together, asked for with the gold entities",
    "modifiers_end_to_end": "modifiers of predicted entities",
    "links_end_to_end": "links of predicted entities",
}

ANSWERS = Table(
    {
        "metric": Value(
            "text",
            "exact_match and token_f1: the text against the response; choice: the most likely one",
            choices=("exact_match", "choice", "token_f1"),
        ),
        "num_records": Value("count", "records that were answered", "records"),
        "score": Value("share", "mean over the records", null="there is no record"),
        "interval": Many(
            Value("share", "low, then high"),
            "95% interval of `score`, by bootstrap over records",
            length=2,
            null="not computed, or there are fewer than six records",
        ),
    },
    "answers to the prompts of instruction data",
    null="the study extracts from notes",
)

_SITE_ROUND = Table(
    {
        "site": Value("text", "the site's name"),
        "num_examples": Value("count", "examples trained on in this round"),
        "num_target_tokens": Value("count", "supervised target tokens, the n_k of the rules", "tokens"),
        "train_loss": Value("number", "mean training loss of the round", "nats", null="it was not finite"),
        "validation_loss": Value(
            "number",
            "loss of this site's adapter on the coordinator's notes, or mean of the other sites' losses",
            "nats",
            null="the rule does not measure it",
        ),
        "seconds": Value("seconds", "time of the site's training", "s"),
        "upload_bytes": Value("count", "bytes from the site to the coordinator", "bytes"),
        "download_bytes": Value("count", "bytes from the coordinator to the site", "bytes"),
        "peak_memory_bytes": Value(
            "count", "most memory held by the process or the GPU", "bytes", null="it could not be measured"
        ),
        "late_from": Value(
            "positive",
            "round that the update was asked for in, where it is an earlier one",
            null="it is this one",
        ),
        "change_norm": Value(
            "number",
            "Frobenius norm of its change of B A, over all layers",
            null="the run sets no bound of its own on it, and it is far from the default one",
        ),
        "answer_seconds": Value(
            "seconds",
            "from the question to the answer, over a network",
            "s",
            null="the site is on this machine",
        ),
    },
    "one site's work",
    optional=("late_from", "change_norm", "answer_seconds"),
)

_ABSENT = Table(
    {
        "site": Value("text", "the site's name"),
        "reason": Value("text", "why, in words"),
    },
    "a site that was asked and is not in the round",
)

_NOT_READ = Table(
    {
        "cohort": Value("text", "the site's name"),
        "decoding": Value("text", "how it was to be read", choices=("constrained", "free")),
        "reason": Value("text", "why, in words"),
    },
    "a site's test notes that were not read, where `[rounds] quorum` let the run end without them",
)

_ROUND = Table(
    {
        "round_num": Value("positive", "1, 2, 3, ... without a gap"),
        "weights": Named("site", Value("share", "its weight; all together are 1"), "weight of each site"),
        "figures": Named(
            "figure",
            Value("number", "such as `refactoring_error`; docs/aggregation.md says what they are"),
            "what else the rule found out about the round; empty under most rules",
            null="not kept (older runs)",
        ),
        "sites": Many(_SITE_ROUND, "one per site that took part, each once"),
        "absent": Many(_ABSENT, "sites that were asked and are not in the round", null="not recorded"),
        "aggregate_seconds": Value("seconds", "time of the coordinator's aggregation", "s"),
        "validate_seconds": Value(
            "seconds",
            "time of what the rule finds out on validation notes before it weighs",
            "s",
            null="it needs nothing",
        ),
        "validation": Table(
            {
                "loss": Value("number", "loss of the new adapter", "nats", null="it was not finite"),
                "ner_strict_f1": Value("share", "strict micro-F1 of entities", null="undefined or not read"),
                "ner_lenient_f1": Value(
                    "share", "lenient micro-F1 of entities", null="undefined or not read"
                ),
            },
            "the new adapter on the validation notes; where the sites validate, the mean of their losses",
            null="not measured in this round",
        ),
    },
    "one round",
    optional=("figures", "absent", "validate_seconds"),
)

USAGE = Table(
    {
        "num_requests": Value("count", "requests sent, retries left out"),
        "num_failed": Value("count", "requests without an answer in the end"),
        "num_retries": Value("count", "requests sent once more"),
        "prompt_tokens": Value("count", "tokens sent, as the service counts them", "tokens"),
        "completion_tokens": Value("count", "tokens received, as the service counts them", "tokens"),
        "cost": Value("number", "price of all of it", "`currency`", null="the study names no prices"),
        "currency": Value("text", 'such as `EUR`; "" where `cost` is null'),
    },
    "what was asked of a model behind an endpoint",
    null="no endpoint was asked, or another run of the same study asked it the same",
)

EVALUATION = Table(
    {
        "cohort": Value("text", "name of a cohort"),
        "decoding": Value(
            "text",
            "constrained: an answer can only be of the study's form; free: generate, or the most likely "
            "choice",
            choices=("constrained", "free"),
        ),
        "num_examples": Value("count", "prompts that were answered"),
        "num_unparsed": Value(
            "count", "answers with a part that could not be read; prompts too long for the model"
        ),
        "num_ungrounded": Value(
            "count",
            "mentions that answers name and that their sentence does not hold; dropped",
            null="not counted (older runs)",
        ),
        "seconds": Value("seconds", "time of the extraction", "s"),
        "scores": Table(
            dict.fromkeys(SCORE_KINDS, SCORE),
            "; ".join(f"`{name}`: {meaning}" for name, meaning in SCORE_KINDS.items()),
        ),
        "answers": ANSWERS,
        "usage": USAGE,
    },
    "one cohort read once; each pair of cohort and decoding occurs once",
    optional=("usage",),
)

COHORT = Table(
    {
        "name": Value("text", "unique"),
        "kind": Value(
            "text",
            "site: it trains; external: another source; new-site: newly annotated, few notes",
            choices=("site", "external", "new-site"),
        ),
        "synthetic": Value("flag", "true: the notes were written by a program; false: they are real"),
        "num_train_notes": Value("count", "notes trained on", "notes"),
        "num_train_examples": Value("count", "examples made from them", "examples"),
        "num_test_notes": Value("count", "notes tested on", "notes"),
        "num_test_sentences": Value("count", "sentences tested on", "sentences"),
        "annotates": Table(
            {
                "entities": Many(Value("text", "entity type"), "entity types that the source annotates"),
                "pairs": Many(Value("text", "such as `problem.negation`"), "pairs that it annotates"),
            },
            "what is asked for and scored at all",
        ),
        "not_expressible": Named(
            "reason",
            Value("count", "annotations"),
            "annotations of the training notes that no target can say: not trained on",
        ),
        "test_not_expressible": Named(
            "reason",
            Value("count", "annotations"),
            "annotations of the test notes that no answer can say; they count as gold all the same",
        ),
        "too_long": Value("count", "examples longer than the model's budget, left out", "examples"),
    },
    "one source of notes",
)

_VALIDATION = Table(
    {
        "num_notes": Value("count", "notes in the files", "notes"),
        "num_loss_examples": Value("count", "examples that the loss is the mean over", "examples"),
        "num_f1_notes": Value("count", "notes that F1 is measured on", "notes"),
        "num_f1_sentences": Value("count", "sentences of those", "sentences"),
        "not_expressible": Named(
            "reason", Value("count", "annotations"), "annotations that no target can say"
        ),
        "too_long": Value("count", "examples longer than the model's budget, left out", "examples"),
    },
    "the coordinator's notes",
    null="the study names none",
)

ADAPTATION = Table(
    {
        "site": Value("text", "name of the cohort that it was adapted to"),
        "num_notes": Value("count", "notes of it that were trained on", "notes"),
        "start": Value("text", "method whose adapter it started from; `zero_shot`: from scratch"),
    },
    "an adapter trained further on few notes of a new site",
    null="the method is no adaptation",
)

METHOD = Table(
    {
        "name": Value("text", "`zero_shot`, `single_site:SITE`, `centralized` or a rule; unique"),
        "label": Value("text", "how tables and figures call it"),
        "adapter": Value(
            "text",
            "folder of the adapter, relative to this file",
            null="nothing was trained, or a whole model",
        ),
        "seconds": Value("seconds", "time of the training, evaluation left out", "s"),
        "rounds": Many(_ROUND, "in order; empty where nothing was trained"),
        "evaluations": Many(EVALUATION, "in any order"),
        "not_read": Many(_NOT_READ, "test notes that have no evaluation", null="not recorded"),
        "adaptation": ADAPTATION,
        "usage": USAGE,
        "trained_parameters": Value(
            "count", "parameters that a site trains", "parameters", null="nothing is trained"
        ),
    },
    "one method",
    optional=("adaptation", "usage", "trained_parameters", "not_read"),
)

MACHINE: Mapping[str, Node] = {
    "fedmedlora": Value("text", "version"),
    "python": Value("text", "version"),
    "torch": Value("text", "version"),
    "transformers": Value("text", "version"),
    "peft": Value("text", "version"),
    "platform": Value("text", "operating system and machine"),
    "num_cores": Value("positive", "CPU cores that the process may use", "cores"),
    "device": Value("text", "`cpu`, or the GPU's name"),
}

MODEL = Table(
    {
        "name": Value("text", "folder, hub name or `smollm2-135m`"),
        "hash": Value("text", "hash of the base model's weights"),
        "num_parameters": Value("count", "frozen parameters", "parameters"),
        "adapter_parameters": Value("count", "trained parameters, those that travel", "parameters"),
    },
    "the frozen base model",
)

SCHEMA = Table(
    {
        "format": Value("text", "what this file is", choices=(FORMAT,)),
        "version": Value("positive", f"version of this schema: {VERSION}"),
        "name": Value("text", "title of the study"),
        "created_utc": Value("text", "end of the run, ISO 8601, UTC"),
        "command": Many(Value("text", "one argument"), "the command; paths by last names"),
        "study": Value("settings", "all settings as in the study's TOML, defaults filled in"),
        "environment": Table(
            {**MACHINE, "seed": Value("count", "seed of everything random")}, "where it ran"
        ),
        "model": MODEL,
        "cohorts": Many(COHORT, "in the order of the study"),
        "validation": _VALIDATION,
        "methods": Many(METHOD, "in the order of the study"),
    },
    "the whole file",
    title="results.json",
)


def reference_page() -> str:
    """The tables of ``docs/results-schema.md``, as Markdown: one section per titled table."""
    return tables_page((SCHEMA, SCORE, NUMBERS))
