"""What was left out, what is needed to repeat the run, and what it must not be taken for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora.report.blocks import data_table, fold, items, name, pairs, paragraph, section
from fedmedlora.report.markup import Child, Markup, tag
from fedmedlora.report.numbers import NOT_MEASURED, count_text, seconds_text
from fedmedlora.report.rows import has_answers, score_rows


def _reasons(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{reason}: {count_text(n)}" for reason, n in counts.items() if n) or "none"


def omitted_section(results: Mapping[str, Any]) -> Markup:
    """Annotations that the form cannot say, examples that were too long, answers that were not read."""
    lost: list[list[Child]] = []
    for cohort in results["cohorts"]:
        parts = (cohort["not_expressible"], cohort["test_not_expressible"])
        lost.append([name(cohort["name"]), *map(_reasons, parts), count_text(cohort["too_long"])])
    validation = results["validation"]
    if validation is not None:
        reasons = _reasons(validation["not_expressible"])
        lost.append(["validation notes", reasons, "n/a", count_text(validation["too_long"])])
    unread: list[list[Child]] = []
    for row in score_rows(results):
        for cohort_name, evaluation in row.evaluations.items():
            num, of = evaluation["num_unparsed"], evaluation["num_examples"]
            ungrounded = evaluation["num_ungrounded"]
            share = f"{100 * num / of:.1f}%" if of else "n/a"
            unread.append(
                [
                    name(row.label),
                    name(cohort_name),
                    evaluation["decoding"],
                    count_text(of),
                    count_text(num),
                    share,
                    NOT_MEASURED if ungrounded is None else count_text(ungrounded),
                    seconds_text(evaluation["seconds"]),
                ]
            )
    columns = ["Method", "Cohort", "Decoding", "Examples", "Unparsed", "Share", "Ungrounded", "Time"]
    total = sum(e["num_unparsed"] for m in results["methods"] for e in m["evaluations"])
    return section(
        "omitted",
        "What was left out",
        paragraph(
            "Records that are too long for the model are left out of training; in a test they count as wrong."
            if has_answers(results)
            else "No answer can say discontinuous spans, and inline markup no crossing ones. They are not "
            "trained on, but they count as gold: a method cannot get them right. Examples that are too long "
            "for the model are left out, and counted here."
        ),
        data_table(
            "omitted-data",
            "What could not be expressed or was too long.",
            ["Notes", "Training annotations", "Test annotations", "Examples too long"],
            lost,
            style="prose",
        ),
        fold(
            f"Answers that could not be read: {count_text(total)}",
            data_table(
                "unparsed-data",
                "Answers of each method, those with a part that could not be read, and mentions that answers "
                "name and that their sentence does not hold.",
                columns,
                unread,
                num_words=3,
            ),
        ),
    )


def record_section(results: Mapping[str, Any]) -> Markup:
    """Command, model, machine, versions, seed and every setting."""
    machine = results["environment"]
    found = list(flat(results["study"]))
    settings: list[list[Child]] = [[tag("code", {}, key), tag("code", {}, value)] for key, value in found]
    return section(
        "record",
        "How to repeat it",
        tag("h3", {}, "Command"),
        command_box(results["command"]),
        tag("h3", {}, "Model"),
        model_pairs(results["model"]),
        tag("h3", {}, "Machine, versions, seed"),
        pairs([(MACHINE_WORDS.get(key, key), str(value)) for key, value in machine.items()]),
        tag("h3", {}, "Adapters"),
        pairs(
            [
                (name(m["label"]), tag("code", {}, m["adapter"]) if m["adapter"] else "none")
                for m in results["methods"]
            ]
        ),
        tag("h3", {}, "Settings"),
        fold(
            f"The whole study ({len(found)} settings)",
            data_table(
                "settings-data",
                "Every setting, as in the study file.",
                ["Key", "Value"],
                settings,
                style="prose",
            ),
        ),
    )


def command_box(command: Sequence[str]) -> Markup:
    """A command as it is typed, in a box that scrolls."""
    return tag(
        "pre",
        {"class": "scroll", "role": "region", "tabindex": 0, "aria-label": "The exact command"},
        tag("code", {}, shlex.join(command)),
    )


def model_pairs(model: Mapping[str, Any]) -> Markup:
    """What the base model is."""
    return pairs(
        [
            ("Base model", name(model["name"])),
            ("Hash of its weights", tag("code", {}, model["hash"])),
            ("Frozen parameters", count_text(model["num_parameters"])),
            ("Adapter parameters", count_text(model["adapter_parameters"])),
        ]
    )


_NARROW = (
    "Intervals are narrower than the truth.",
    "They hold the chance of which notes were tested on, not that of "
    "the seed, of who annotated, or of another hospital.",
)


def limits_section(*more: tuple[str, str]) -> Markup:
    """What an honest reader must know. ``more``: what the intervals hold and what else; default: of a run."""
    points = (
        (
            "Adapters can memorize.",
            "An adapter may hold parts of the notes that it was trained on, and someone "
            "who has it may get them back. Treat adapters and updates like the notes themselves.",
        ),
        (
            "No differential privacy yet.",
            "No noise is added to what travels; there is no privacy guarantee, "
            "formal or other. That notes stay at their site is not one.",
        ),
        (
            "Not a medical device.",
            "Predictions are wrong in ways that cannot be foreseen. They are for research, "
            "not for the care of a patient.",
        ),
        *(more or (_NARROW,)),
    )
    return section(
        "limits", "Limits", items([tag("span", {}, tag("strong", {}, a), f" {b}") for a, b in points])
    )


MACHINE_WORDS = {
    "fedmedlora": "fedmedlora",
    "python": "Python",
    "torch": "PyTorch",
    "transformers": "transformers",
    "peft": "PEFT",
    "platform": "Platform",
    "num_cores": "Cores",
    "device": "Device",
    "seed": "Seed",
}


def flat(settings: object, path: str = "") -> list[tuple[str, str]]:
    """(dotted key, value as JSON) of every setting; empty tables and lists are kept."""
    found = []
    if isinstance(settings, Mapping) and settings:
        for key, value in settings.items():
            found += flat(value, f"{path}.{key}" if path else key)
    elif isinstance(settings, list | tuple) and any(isinstance(item, Mapping) for item in settings):
        for place, item in enumerate(settings):
            found += flat(item, f"{path}[{place}]")
    elif path:
        found.append((path, json.dumps(settings, ensure_ascii=False)))
    return found
