import io

from rich.console import Console

from fedmedlora.report.rows import best, score_rows
from fedmedlora.report.tables import table_text


def shown(results, width=200):
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=False)
    for table in table_text(results):
        console.print(table)
    return console.file.getvalue()


def test_one_table_per_kind_and_a_row_per_decoding(results):
    tables = table_text(results)
    assert [table.title.plain.split(":")[0] for table in tables] == [
        "Entities",
        "Modifiers, given the gold entities",
        "Links, given the gold entities",
        "Modifiers, end to end",
        "Links, end to end",
    ]
    assert [table.row_count for table in tables] == [5] * 5  # zero-shot is read in two ways
    assert all(len(table.columns) == 6 for table in tables)


def test_undefined_and_not_measured_are_told_apart(results):
    scores = results["methods"][2]["evaluations"][0]["scores"]
    scores["links_gold"] = None
    none = {"tp": 0, "fp": 0, "fn": 0, "precision": None, "recall": None, "f1": None}
    scores["entities"]["strict"] = {**none, "macro_f1": None, "interval": None, "per_type": {}}
    text = shown(results)
    assert text.count("not measured") == 1
    assert text.count("n/a / ") == 1


def test_a_method_that_was_not_evaluated_keeps_its_row(results):
    results["methods"][3]["evaluations"] = []
    line = next(line for line in shown(results).splitlines() if "Fed-MedLoRA+" in line)
    assert line.count("not measured") == 5


def test_names_are_no_styles_and_no_terminal_codes(results):
    results["methods"][2]["label"] = "[red]x[/red]\x1b[31m\u202e"
    results["cohorts"][0]["name"] = "[bold]a"
    for method in results["methods"]:
        for evaluation in method["evaluations"]:
            if evaluation["cohort"] == "lakeside":
                evaluation["cohort"] = "[bold]a"
    text = shown(results)
    assert "[red]x[/red][U+001B][31m[U+202E]" in text
    assert "[bold]a" in text
    assert "\x1b" not in text


def test_nothing_was_run(results):
    assert [table.row_count for table in table_text({**results, "methods": []})] == [0] * 5


def test_ties_are_all_best(results):
    twin = {**results["methods"][3], "name": "other", "label": "Twin"}
    rows = score_rows({**results, "methods": [results["methods"][3], twin]})
    assert [row.label for row in best(rows, "lakeside", "entities", "strict")] == ["Fed-MedLoRA+", "Twin"]
    assert best(rows, "nowhere", "entities", "strict") == ()


def test_where_nothing_was_found_nobody_is_best(results):
    for method in results["methods"]:
        for evaluation in method["evaluations"]:
            if evaluation["cohort"] == "lakeside":
                evaluation["scores"]["entities"]["strict"]["f1"] = 0.0
    rows = score_rows(results)
    assert best(rows, "lakeside", "entities", "strict") == ()
    assert best(rows, "northgate", "entities", "strict") != ()
