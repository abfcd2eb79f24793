import io

from rich.console import Console

from fedmedlora.report.study_tables_text import study_table_text


def shown(results):
    console = Console(file=io.StringIO(), width=200, no_color=True, force_terminal=False)
    for table in study_table_text(results):
        console.print(table)
    return console.file.getvalue()


def test_one_table_per_kind_with_means_and_intervals(study):
    for mean in study["means"]:
        if (mean["method"], mean["kind"], mean["over"]) == ("fed_medlora", "entities", "site"):
            mean.update(f1=0.6254, f1_by_seed=[0.6254, 0.6254], interval=[0.6, 0.65])
    tables = study_table_text(study)
    assert [table.title.plain.split(":")[0] for table in tables] == [
        "Entities",
        "Modifiers, given the gold entities",
        "Links, given the gold entities",
        "Modifiers, end to end",
        "Links, end to end",
        "Entities, by arm",
        "Modifiers, given the gold entities, by arm",
    ]
    assert [table.row_count for table in tables[:5]] == [15] * 5  # adaptations to the new site are left out
    heads = [column.header for column in tables[0].columns]
    assert [str(head) for head in heads[1:3]] == ["training sites, strict", "training sites, lenient"]
    line = next(line for line in shown(study).splitlines() if "Fed-MedLoRA " in line)
    assert "0.625 0.60–0.65" in line


def test_arms_have_a_line_per_method(study):
    for mean in study["means"]:
        if (mean["arm"], mean["method"], mean["kind"]) == ("noise-20", "fed_medlora", "entities"):
            mean["f1"] = {"site": 0.514, "external": 0.416}.get(mean["over"], 0.3) + 0.1 * (
                mean["criterion"] == "lenient"
            )
    table = study_table_text(study)[5]
    assert table.row_count == 5 * 3  # five arms, three methods
    assert [column.header for column in table.columns[:2]] == ["arm", "method"]
    assert [cell.plain for cell in table.columns[0].cells][:4] == ["noise-20", "", "", "noise-40"]
    place = [cell.plain for cell in table.columns[1].cells].index("Fed-MedLoRA")
    assert [list(column.cells)[place].plain for column in table.columns[2:4]] == [
        "0.51 / 0.61",
        "0.42 / 0.52",
    ]
    study["arms"] = [arm for arm in study["arms"] if arm["name"] == "main"]
    for key in ("runs", "scores", "means"):
        study[key] = [one for one in study[key] if one["arm"] == "main"]
    assert len(study_table_text(study)) == 5


def test_nothing_is_cut_in_a_narrow_terminal(study):
    console = Console(file=io.StringIO(), width=70, no_color=True, force_terminal=False)
    for table in study_table_text(study):
        console.print(table)
    assert "…" not in console.file.getvalue()


def test_why_a_mean_has_no_interval_is_said(study):
    assert "fewer than 6 notes" not in shown(study)
    chosen = ("fed_medlora", "entities", "site")
    mean = next(m for m in study["means"] if (m["method"], m["kind"], m["over"]) == chosen)
    mean["interval"] = None
    text = shown(study)
    assert text.count("A score without an interval rests on fewer than 6 notes with anything to count") == 1
    assert "(of a mean: in one of its cohorts)" in " ".join(text.split())
    mean.update(f1=None)  # undefined: there is nothing to have an interval of
    assert "fewer than 6 notes" not in shown(study)


def test_the_best_is_bold_and_what_was_not_measured_is_said(study):
    study["means"] = [m for m in study["means"] if (m["method"], m["over"]) != ("few_shot", "external")]
    entities = study_table_text(study)[0]
    place = next(i for i, cell in enumerate(entities.columns[0].cells) if cell.plain == "Few-shot")
    assert list(entities.columns[3].cells)[place].plain == "not measured"
    bold = [cell for cell in entities.columns[1].cells if any(span.style == "bold" for span in cell.spans)]
    bold += [cell for cell in entities.columns[1].cells if cell.style == "bold"]
    assert len(bold) == 1


def test_names_are_no_styles_and_no_terminal_codes(study):
    for run in study["runs"]:
        run["methods"][0]["label"] = "[red]x[/red]\x1b[31m\u202e"
    text = shown(study)
    assert "[red]x[/red][U+001B][31m[U+202E]" in text
    assert "\x1b" not in text


def test_nothing_was_measured(study):
    assert study_table_text({**study, "means": []}) == []
