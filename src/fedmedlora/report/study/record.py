"""What is needed to repeat the study: commands, seeds, arms, cohorts, machine, settings and files."""

from __future__ import annotations

from fedmedlora.report.blocks import pairs, paragraph
from fedmedlora.report.markup import tag
from fedmedlora.report.numbers import count_text
from fedmedlora.report.record_section import MACHINE_WORDS, command_box, flat, model_pairs
from fedmedlora.report.rows import KINDS
from fedmedlora.report.study.arms import arms_table
from fedmedlora.report.study.pieces import Cell, Column, Part, Piece, StudyTable, Words, named, word
from fedmedlora.report.study.view import StudyView
from fedmedlora.results.study_schema import MAIN


def record_part(view: StudyView) -> Part:
    """Everything but the runs' own records, which stand in their folders."""
    results = view.results
    pieces: list[Piece] = [
        tag("h3", {}, "Command"),
        command_box(results["command"]),
        paragraph(
            "Every caption ends with the command that makes the runs of its figure or table alone. Beside "
            "this page, every figure is an SVG file in ",
            tag("code", {}, "figures/"),
            " and every table, with all digits, a CSV file in ",
            tag("code", {}, "tables/"),
            ", under the name that its caption tells.",
        ),
        tag("h3", {}, "Model"),
        model_pairs(results["model"]),
        tag("h3", {}, "Machine, versions, seeds"),
        pairs(
            [
                *((MACHINE_WORDS.get(key, key), str(value)) for key, value in results["environment"].items()),
                ("Seeds", ", ".join(map(str, view.seeds))),
            ]
        ),
        tag("h3", {}, "Arms, cohorts, runs, settings"),
        arms_table(view),
        _cohorts(view),
        _runs(view),
        _settings(view),
    ]
    return Part("record", "How to repeat it", "How to repeat it", tuple(pieces))


def _cohorts(view: StudyView) -> StudyTable:
    keys = ("num_train_notes", "num_train_examples", "num_test_notes", "num_test_sentences")
    titles = ("Cohort", "Role", "Notes are", "Train notes", "Train examples", "Test notes", "Test sentences")
    body = tuple(
        (
            named(cohort["name"]),
            word(KINDS[cohort["kind"]]),
            word("synthetic" if cohort["synthetic"] else "real"),
            *(Cell(cohort[key], count_text(cohort[key])) for key in keys),
        )
        for cohort in view.arms[MAIN]["cohorts"]
    )
    caption: Words = ("Where the notes of the study as it stands come from, and how many there are.",)
    columns = tuple(map(Column, titles))
    return StudyTable("cohorts", caption, columns, body, (MAIN,), ("Cohorts",), num_words=3)


def _runs(view: StudyView) -> StudyTable:
    runs = sorted(
        view.results["runs"],
        key=lambda run: (list(view.arms).index(run["arm"]), view.seeds.index(run["seed"])),
    )
    body = tuple(
        (named(run["arm"]), Cell(run["seed"], str(run["seed"])), named(run["folder"])) for run in runs
    )
    caption: Words = ("The folder of each run, beside this page.",)
    columns = tuple(map(Column, ("Arm", "Seed", "Folder")))
    return StudyTable("runs", caption, columns, body, tuple(view.arms), (f"{len(runs)} runs",), is_prose=True)


def _settings(view: StudyView) -> StudyTable:
    found = flat(view.results["study"])
    body = tuple((word(key), word(value)) for key, value in found)
    caption: Words = ("Every setting of the study as it stands, as in the study file.",)
    columns = (Column("Key"), Column("Value"))
    fold_words: Words = (f"The whole study ({len(found)} settings)",)
    return StudyTable("settings", caption, columns, body, (MAIN,), fold_words, is_prose=True)
