"""Numbers of the parts, worked by hand."""

import pytest

from fedmedlora.report.study.arms import arm_parts
from fedmedlora.report.study.calibration import calibration_part
from fedmedlora.report.study.cost import cost_of, cost_part
from fedmedlora.report.study.differences import difference_text, p_text
from fedmedlora.report.study.external import external_part
from fedmedlora.report.study.new_site import new_site_part
from fedmedlora.report.study.per_type import types_part
from fedmedlora.report.study.pieces import StudyFigure, StudyTable
from fedmedlora.report.study.reading import reading_part, usage_part
from fedmedlora.report.study.view import view_of
from fedmedlora.report.study.weights import weights_part


def site(name, **numbers):
    return {"site": name, "upload_bytes": 10, "download_bytes": 20, "peak_memory_bytes": None, **numbers}


def record(weights, sites):
    rounds = [
        {"weights": w, "sites": s, "aggregate_seconds": 0.5} for w, s in zip(weights, sites, strict=True)
    ]
    return {"rounds": rounds, "seconds": 4.0, "evaluations": [{"seconds": 3.0}, {"seconds": 1.0}]}


def test_a_cost_is_the_mean_over_the_seeds():
    # two seeds; in the second, one round of one site more
    two = [[site("a", peak_memory_bytes=3), site("b", peak_memory_bytes=7)]]
    records = [record([{}], two), record([{}, {}], [*two, [site("a")]])]
    cost = cost_of([{**records[0], "trained_parameters": 5}, records[1]])
    assert (cost.up_bytes, cost.down_bytes) == (25, 50)  # (20 + 30) / 2, (40 + 60) / 2
    assert (cost.training_s, cost.aggregation_s, cost.reading_s) == (4, 0.75, 4)
    assert (cost.peak_bytes, cost.trained_parameters) == (7, 5)
    assert cost.validation_s is None  # an older version did not record it
    for number, one in enumerate([one for of_seed in records for one in of_seed["rounds"]]):
        one["validate_seconds"] = (3.0, 5.0, None)[number]  # the last: nothing was asked for
    assert cost_of(records).validation_s == 4  # (3 + 5) / 2
    for one in (one for of_seed in records for one in of_seed["rounds"]):
        one["validate_seconds"] = None
    assert cost_of(records).validation_s == 0


def test_the_table_of_costs_tells_the_coordinators_time(study):
    (table, *_) = [piece for piece in cost_part(view_of(study)).pieces if isinstance(piece, StudyTable)]
    titles = [column.title for column in table.columns]
    place = titles.index("Validation")
    assert titles[place - 1 : place + 2] == ["Training", "Validation", "Aggregation"]
    cells = {row[0].text: row[place] for row in table.rows}
    assert (cells["Fed-MedLoRA+"].value, cells["Fed-MedLoRA+"].text) == (14.0, "14 s")  # 4 rounds of 3.5 s
    assert cells["Zero-shot"].text == "0.0 s"


def test_weights_are_means_over_the_runs_that_gave_one(study):
    runs = [run for run in study["runs"] if run["arm"] == "main"]
    for run, weights in zip(runs, ({"lakeside": 0.5, "northgate": 0.5}, {"lakeside": 1.0}), strict=True):
        method = next(m for m in run["methods"] if m["name"] == "fed_medlora")
        method["rounds"] = [{**method["rounds"][0], "weights": weights}]
    figure = weights_part(view_of(study)).pieces[1]
    place = [c.group.text for c in figure.table.columns[1:]].index("Fed-MedLoRA") + 1
    # lakeside: (0.5 + 1) / 2; northgate took part in one run alone
    assert [figure.table.rows[0][place + step].value for step in (0, 1)] == [0.75, 0.5]
    assert [cell.value for cell in figure.table.rows[1][place : place + 2]] == [None, None]


def test_arms_other_than_the_main_one_are_folded(made_study):
    figures = [p for p in weights_part(view_of(made_study)).pieces if isinstance(p, StudyFigure)]
    assert [bool(figure.fold) for figure in figures] == [False, True, True, True, True, True]
    assert "Single site: lakeside" not in {panel.title for panel in figures[0].panels}


def test_an_arm_of_some_seeds_stands_beside_the_study_under_the_same(study, made_study):
    """The rest of a study's seeds would make a difference that is none of the arm."""
    study["runs"] = [r for r in study["runs"] if r["arm"] == "main" or r["seed"] == study["seeds"][1]]
    for one in (*study["scores"], *study["means"]):
        if one["arm"] != "main":
            one["f1_by_seed"] = one["f1_by_seed"][1:2]
            one["f1"] = one["f1_by_seed"][0]
    view = view_of(study)
    (part,) = [part for part in arm_parts(view) if part.ident == "group-a-noisy-site"]
    figure = next(piece for piece in part.pieces if isinstance(piece, StudyFigure))
    assert [[cell.text for cell in row[:4]] for row in figure.table.rows[:2]] == [
        ["The study as it stands", "", "3", "2"],
        ["the study as it stands, under seed 1 alone", "", "3", "1"],
    ]
    place = [c.title.text for c in figure.table.columns[4:]].index("Fed-MedLoRA") + 4
    (mean,) = [
        m for m in study["means"]
        if (m["arm"], m["method"], m["kind"], m["criterion"], m["over"], m["decoding"])
        == ("main", "fed_medlora", "entities", "strict", "site", "constrained")
    ]  # fmt: skip
    cell = figure.table.rows[1][place]
    assert cell.value == mean["f1_by_seed"][1] != mean["f1"]
    assert cell.also == (None, None)  # one seed's interval is not in the results
    assert figure.legend[-1][1] == ("hollow, at the left: the study as it stands, under seed 1 alone",)
    assert "that line has no intervals, which are made over all the seeds of an arm" in part.pieces[0].source
    for part in arm_parts(view_of(made_study)):  # the same seeds everywhere: there is no such line
        assert "that line has no intervals" not in part.pieces[0].source


def test_beside_methods_that_the_study_does_not_have_stand_its_own_federated_ones(study):
    """A group of other rules alone: else the line of the study would be empty, with nothing to compare."""

    def table(results):
        return next(p for p in arm_parts(view_of(results)) if p.ident == "group-a-noisy-site").pieces[1].table

    def heads(shown):
        return [getattr(column.title, "text", column.title) for column in shown.columns]

    before = table(study)
    columns = heads(before)
    for run in (run for run in study["runs"] if run["arm"] != "main"):
        run["methods"] = [
            m | {"name": "another", "label": "Another"} for m in run["methods"] if m["name"] == "fed_medlora"
        ]
    for key in ("scores", "means"):
        kept = [one for one in study[key] if one["arm"] == "main" or one["method"] == "fed_medlora"]
        study[key] = [one if one["arm"] == "main" else one | {"method": "another"} for one in kept]
    after = table(study)
    titles = heads(after)
    own, other = titles.index("Fed-MedLoRA"), titles.index("Another")
    assert [row[own].value is None for row in after.rows] == [False, True, True]
    assert [row[other].value is None for row in after.rows] == [True, False, False]
    place = columns.index("Fed-MedLoRA")
    assert after.rows[0][own] == before.rows[0][place]
    assert [row[other] for row in after.rows[1:]] == [row[place] for row in before.rows[1:]]


def test_methods_that_arms_read_in_another_way_are_not_other_methods(study):
    """Set beside themselves, they would have two columns of one name."""
    for key in ("scores", "means"):
        kept = [one for one in study[key] if one["arm"] == "main" or one["method"] == "fed_medlora"]
        study[key] = [one if one["arm"] == "main" else one | {"decoding": "free"} for one in kept]
    for run in (run for run in study["runs"] if run["arm"] != "main"):
        run["methods"] = [m for m in run["methods"] if m["name"] == "fed_medlora"]
        for method in run["methods"]:
            method["evaluations"] = [e | {"decoding": "free"} for e in method["evaluations"]]
    part = next(p for p in arm_parts(view_of(study)) if p.ident == "group-a-noisy-site")
    columns = part.pieces[1].table.columns
    titles = [(str(column.title), str(column.group)) for column in columns]
    assert len(set(titles)) == len(titles) > 3


def test_a_new_site_begins_at_the_start_itself(made_study):
    figure = new_site_part(view_of(made_study)).pieces[1]
    assert [row[0].value for row in figure.table.rows] == [0, 5, 20, 80]
    zero_shot = next(
        s["f1"]
        for s in made_study["scores"]
        if (s["method"], s["cohort"], s["kind"], s["criterion"])
        == ("zero_shot", "saltmarsh", "entities", "strict")
    )
    assert figure.table.rows[0][1].value == zero_shot
    assert [column.group.text for column in figure.table.columns[1::2]] == [
        "from scratch",
        "from Fed-MedLoRA+",
        "from Single site: lakeside",
    ]


def test_a_start_that_was_not_run_has_no_point_at_zero(study):
    for run in study["runs"]:
        run["methods"] = [m for m in run["methods"] if m["name"] != "zero_shot"]
    for key in ("scores", "means"):
        study[key] = [one for one in study[key] if one["method"] != "zero_shot"]
    figure = new_site_part(view_of(study)).pieces[1]
    assert [cell.text for cell in figure.table.rows[0][1:3]] == ["not measured", "not measured"]


def test_gains_are_over_the_best_single_site(study):
    for mean in study["means"]:
        if mean["method"].startswith("single_site:") and mean["over"] == "external":
            mean["f1"] = 0.9 if mean["method"].endswith("northgate") else 0.1
    pieces = {piece.ident: piece for piece in external_part(view_of(study)).pieces[1:]}
    rows = pieces["external-gain-entities"].table.rows
    assert {row[2].text for row in rows} == {"Single site: northgate"}
    assert [row[1].text for row in rows[:2]] == ["Fed-MedLoRA", "Fed-MedLoRA+"]
    found = next(
        c["difference"]
        for c in study["comparisons"]
        if (c["arm"], c["kind"], c["criterion"], c["over"], c["a"], c["b"])
        == ("main", "entities", "strict", "external", "fed_medlora", "single_site:northgate")
    )
    assert rows[0][3].value == found


def test_gains_are_told_whichever_method_a_comparison_names_first(study):
    """A study names the pair in the order of its methods, where single sites come before the rules."""

    def gains():
        pieces = {piece.ident: piece for piece in external_part(view_of(study)).pieces[1:]}
        return pieces["external-gain-entities"].table.rows

    expected = gains()
    for c in study["comparisons"]:
        low, high = c["interval"]
        c.update(a=c["b"], b=c["a"], difference=-c["difference"], interval=[-high, -low])
    assert gains() == expected


def test_types_are_means_over_the_cohorts_that_have_them(study):
    f1s = {"stonebridge": 0.25, "millpond": 0.75}
    for one in study["scores"]:
        if one["cohort"] in f1s:
            one["per_type"] = {"drug": {"f1": f1s[one["cohort"]], "num_gold": 10}}
            if one["cohort"] == "millpond":
                one["per_type"]["test"] = {"f1": None, "num_gold": 0}
    figure = types_part(view_of(study)).pieces[1]
    at = [i for i, c in enumerate(figure.table.columns) if c.group == "Mean of external cohorts"]
    drug = next(row for row in figure.table.rows if row[0].text == "drug")
    assert (drug[at[0]].value, drug[at[1]].value) == (20, 0.5)
    test = next(row for row in figure.table.rows if row[0].text == "test")
    assert (test[at[0]].value, test[at[1]].text) == (0, "–")


def test_a_false_positive_where_a_type_has_no_gold_is_in_no_mean_of_it(study):
    for one in study["scores"]:
        if one["cohort"] in ("stonebridge", "millpond"):
            is_there = one["cohort"] == "stonebridge"
            missed = 0.0 if one["method"] == "fed_medlora" else None
            one["per_type"] = {"drug": {"f1": 0.8 if is_there else missed, "num_gold": 10 * is_there}}
    table = types_part(view_of(study)).pieces[1].table
    at = [i for i, c in enumerate(table.columns) if c.group == "Mean of external cohorts"]
    drug = next(row for row in table.rows if row[0].text == "drug")
    assert drug[at[0]].value == 10
    assert {drug[i].value for i in at[1:]} == {0.8}


def test_curves_of_confidence_can_be_told_apart(study):
    """Methods adapted to a new site share a sign: they are in the table of errors alone."""
    adapted = [f"new_site:saltmarsh:{num}:zero_shot" for num in (5, 20, 80)]
    study["calibration"] += [
        {**study["calibration"][0], "method": name, "cohort": "saltmarsh"} for name in adapted
    ]
    _, errors, *figures = calibration_part(view_of(study)).pieces
    assert len(errors.rows) == 6
    for figure in figures:
        signs = [sign for sign, _ in figure.legend if sign is not None]
        assert len(signs) == len(set(signs)) == 3
        assert not any("saltmarsh" in panel.title for panel in figure.panels)
    study["calibration"] = study["calibration"][-3:]
    assert len(calibration_part(view_of(study)).pieces) == 2


def test_unused_answers_are_summed(made_study):
    table = reading_part(view_of(made_study)).pieces[1]
    row = next(row for row in table.rows if row[0].text == "Endpoint")
    # 6 cohorts, 2 seeds: 300 answers each, of which 41 were not read; grounding was not counted
    assert [cell.text for cell in row[1:]] == ["free", "3,600", "492", "13.7%", "not measured"]


def test_unused_answers_are_told_where_nothing_was_scored(study):
    """Answers to instruction data have no F1, and what could not be read of them is told all the same."""
    expected = reading_part(view_of(study)).pieces[1].rows
    for key in ("scores", "means", "comparisons"):
        study[key] = []
    told, table, *_ = reading_part(view_of(study)).pieces
    assert table.rows == expected
    assert "no false positive" in told.source


def test_unused_answers_are_told_per_way_of_reading(study):
    for run in study["runs"]:
        method = next((m for m in run["methods"] if m["name"] == "few_shot"), None)
        if method:
            one = method["evaluations"][0]
            method["evaluations"] = [one, {**one, "decoding": "free", "num_unparsed": 30}]
    study["scores"] += [{**s, "decoding": "free"} for s in study["scores"] if s["method"] == "few_shot"]
    rows = [row for row in reading_part(view_of(study)).pieces[1].rows if row[0].text.startswith("Few-shot")]
    # one cohort, 2 seeds, 300 answers each
    assert [[cell.text for cell in row[1:5]] for row in rows] == [
        ["constrained", "600", "0", "0.0%"],
        ["free", "600", "60", "10.0%"],
    ]


def test_usage_is_summed_over_the_seeds(study):
    row = usage_part(view_of(study)).pieces[1].rows[0]
    assert [cell.text for cell in row[2:]] == ["3,000", "4", "22", "1,820,000", "176,000", "8.50 EUR"]
    first = next(m for m in study["runs"][0]["methods"] if m["usage"])
    first["usage"]["currency"] = "USD"
    assert usage_part(view_of(study)).pieces[1].rows[0][-1].text == "not priced"


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.1234, "+0.123"), (-0.1, "−0.100"), (0.0, "0.000"), (-0.0001, "0.000"), (None, "n/a")],
)
def test_differences(difference, text):
    assert difference_text(difference) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0341, "0.034"), (0.0009, "< 0.001"), (1.0, "1.000"), (None, "not tested")]
)
def test_p_values(p, text):
    assert p_text(p) == text
