"""Settings of a study file that were written down but change nothing in this study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmedlora.study_training import Trains

# What the token classifier takes of [training]; its steps and rates stand under [encoder].
_OF_ENCODER = ("rounds", "participation")


def without_effect(
    given: Mapping[str, Any],
    study: Mapping[str, Any],
    *,
    trains: Trains,
    needs_validation: bool,
    finds_entities: bool,
    asks_about_entities: bool,
    answers_read_by: str,
    is_instruction: bool = False,
    exchanges: bool = True,
    sites_are_here: bool = True,
) -> tuple[str, ...]:
    """One sentence for each setting that the file holds and the study ignores.

    ``given``: the file's own tables. ``study``: all settings, defaults filled in. ``trains``: what is
    trained, and where. ``needs_validation``: whether a rule among the methods weighs sites by a validation
    loss. ``finds_entities``, ``asks_about_entities``: whether some task does. ``answers_read_by``: see
    ``study_forms.py``. ``is_instruction``: whether files hold prompts and responses. ``exchanges``: whether
    some method's adapters travel. ``sites_are_here``: else their own files name their test notes.
    """
    methods = study["methods"]
    training, evaluation = study["training"], study["evaluation"]
    # Validation notes are read by such a rule, and by the curve over rounds of the model that is trained.
    reads_validation = needs_validation or (trains.model and evaluation["every_round"])
    reads_notes = reads_validation or "few_shot" in methods  # which shows some of them
    has_validation = bool(study["validation"]["notes"])
    unvalidated = "nothing is trained"
    if not has_validation:
        unvalidated = "no validation notes are named"
    elif trains.model:
        unvalidated = "no method weighs sites by them, and every_round is false"
    what_copies_not = "task instruction" if is_instruction else f"form {study['tasks']['form']}"
    extracts_not = "task instruction asks what its files say, and answers are generated"
    untrained = f"methods hold {', '.join(methods)} alone: nothing is trained"
    if trains.encoder:
        untrained = "methods train the token classifier alone; see [encoder]"
    joins = any(cohort["train"] for cohort in study["cohorts"])  # and is read, with no notes too
    elsewhere = "sites at other machines say it in their site.toml"
    by_sites = needs_validation and study["validation"]["by"] == "sites"
    checks = [
        # (place, keys, whether they have no effect, why)
        ("training", None, not trains.anything, untrained),
        (
            "training",
            [key for key in training if key not in _OF_ENCODER],
            trains.encoder and not trains.model,
            untrained,
        ),
        ("adapter", None, not trains.model, untrained),
        ("training", ["passes_per_round"], training["steps_per_round"] > 0, "steps_per_round is given"),
        (
            "training",
            ["loss", "decision_weight"],
            answers_read_by == "generating" and training["loss"] == "lm+decision",
            f'{what_copies_not} leaves no decisions; the loss is "lm"',
        ),
        (
            "training",
            ["loss", "decision_weight"],
            answers_read_by == "tagging" and training["loss"] == "lm+decision",
            f'{what_copies_not} generates no text; the loss is "decision"',
        ),
        ("training", ["decision_weight"], training["loss"] != "lm+decision", f"loss is {training['loss']}"),
        (
            "training",
            ["modifier_share"],
            not (finds_entities and asks_about_entities),
            "only one kind of task is trained",
        ),
        ("exchange", None, not exchanges, "no method of the study sends adapters"),
        (
            "exchange",
            ["top_k_share"],
            "top_k" not in (study["exchange"]["upload"], study["exchange"]["download"]),
            "neither upload nor download is top_k",
        ),
        ("rounds", None, not exchanges, "no method of the study sends adapters"),
        (
            "rounds",
            ["quorum", "deadline_s", "deadline_mads", "late", "late_discount", "attempts"],
            sites_are_here,
            "sites on this machine always answer",
        ),
        ("rounds", ["late_discount"], study["rounds"]["late"] != "keep", "late updates are dropped"),
        (
            "rounds",
            ["late"],
            not (study["rounds"]["deadline_s"] or study["rounds"]["deadline_mads"]),
            "there is no deadline to be late for",
        ),
        ("tasks", ["modifier_scope", "prompts", "form", "schema"], is_instruction, extracts_not),
        ("evaluation", ["decoding", "zero_shot_free"], is_instruction, extracts_not),
        (
            "evaluation",
            ["max_answer_tokens"],
            not is_instruction,
            "only answers to instruction data are limited by it",
        ),
        ("tasks", ["modifier_scope"], not asks_about_entities, "no task asks about entities"),
        ("model", ["optimizer", "devices"], not trains.model, untrained),
        ("model", ["devices"], trains.model and not sites_are_here, elsewhere),
        ("model", ["optimizer"], trains.model and not trains.model_here, elsewhere),
        ("model", ["revision"], study["model"]["name"] == "smollm2-135m", "the demo model has one revision"),
        (
            "validation",
            ["held_out_sentences"],
            study["validation"]["by"] != "sites",
            "the coordinator validates on its own notes",
        ),
        ("validation", ["by"], not needs_validation, "no method weighs sites by a validation loss"),
        (
            "validation",
            ["notes"],
            not reads_notes,
            "nothing is trained that it would measure",
        ),
        ("validation", ["max_sentences"], not (has_validation and reads_validation), unvalidated),
        ("evaluation", ["zero_shot_free"], answers_read_by == "tagging", "form tags has nothing to generate"),
        (
            "evaluation",
            ["zero_shot_free"],
            not {"zero_shot", "few_shot"} & set(methods)
            and not is_instruction
            and answers_read_by != "tagging",
            "neither zero_shot nor few_shot is in methods",
        ),
        ("evaluation", ["decoding"], not (trains.model or joins), "no method trains the model"),
        (
            "evaluation",
            ["every_round"],
            evaluation["every_round"] and not ((has_validation and trains.model) or by_sites),
            unvalidated,
        ),
    ]
    found = []
    for table, keys, is_idle, why in checks:
        written = given.get(table, {})
        idle = [key for key in (written if keys is None else keys) if key in written]
        if is_idle and idle:
            found.append(f"[{table}] {', '.join(idle)}: no effect, {why}")
    if given.get("endpoint") and "endpoint" not in methods:
        found.append(f"[endpoint] {', '.join(given['endpoint'])}: no effect, endpoint is not in methods")
    for name, settings in given.get("rules", {}).items():
        if settings and name not in methods:
            found.append(f"[rules.{name}] {', '.join(settings)}: no effect, {name} is not in methods")
        elif settings and len(study["sites"]) == 1:
            found.append(
                f"[rules.{name}] {', '.join(settings)}: no effect, one site alone has all the weight"
            )
    num_dealt = study["federation"]["num_sites"]
    for site in study["sites"]:
        idle = [r for r in site["absent_rounds"] if num_dealt or r > training["rounds"]]
        if idle:
            why = "its notes are dealt to simulated sites" if num_dealt else f"rounds is {training['rounds']}"
            found.append(f"[[sites]] {site['name']} absent_rounds: {idle[0]} has no effect, {why}")
    if "free" in evaluation["decoding"] and trains.model and training["loss"] == "decision":
        found.append("[evaluation] decoding: free generation cannot read what loss decision trains")
    if sites_are_here and not study["cohorts"] and not any(site["test"] for site in study["sites"]):
        found.append("no site names a test file and there are no [[cohorts]]: nothing is evaluated")
    return tuple(dict.fromkeys(found))
