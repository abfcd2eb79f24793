import pytest

from fedmedlora.report.study.view import FAMILIES, by_family, family_of, highest, view_of


def test_families():
    names = ("zero_shot", "single_site:a", "centralized", "fedprox", "encoder_fedavg", "new_site:a:5:fedprox")
    assert [FAMILIES.index(family_of(name)) for name in names] == [0, 1, 1, 2, 3, 4]
    assert family_of("endpoint") == family_of("few_shot") == FAMILIES[0]
    assert family_of("encoder_single_site:a") == FAMILIES[3]


def test_rows_leave_out_adaptations(made_study):
    view = view_of(made_study)
    assert len(view.rows()) == 15
    assert len(view.rows(adapted=True)) == 9
    assert [row.method for row in view.rows("noise-20")] == ["fed_medlora", "fed_medlora_plus", "fedprox"]


def test_a_method_keeps_its_sign_in_every_arm(made_study):
    view = view_of(made_study)
    signs = {row.method: row.sign() for row in view.rows()}
    assert len(set(signs.values())) == len(signs)
    assert all(row.sign() == signs[row.method] for arm in view.arms for row in view.rows(arm))
    # the four that every report shows have the signs that they have there
    assert [signs[name].hue for name in ("zero_shot", "fed_medlora", "fed_medlora_plus", "centralized")] == [
        f"k{place}" for place in range(4)
    ]


def test_a_method_that_is_read_in_two_ways_has_two_rows(study):
    twins = [{**s, "decoding": "free"} for s in study["scores"] if s["method"] == "few_shot"]
    study["scores"] += twins
    rows = [row for row in view_of(study).rows() if row.method == "few_shot"]
    assert [row.label for row in rows] == ["Few-shot, constrained", "Few-shot, free"]
    assert [row.dash for row in rows] == [0, 2]
    assert rows[0].sign() == rows[1].sign() != rows[0].sign(line=True) != rows[1].sign(line=True)


def test_the_command_names_the_arms_in_the_order_of_the_study(made_study):
    view = view_of(made_study)
    told = "fedmedlora run hospitals.toml --arms main,noise-20 --out RUN"
    assert view.command(["noise-20", "main"]) == told
    assert view.command([]) == "fedmedlora run hospitals.toml --arms main --out RUN"
    odd = view_of({**made_study, "command": ["fedmedlora", "my study.toml"]})
    assert odd.command(["main"]) == "fedmedlora run 'my study.toml' --arms main --out RUN"


def test_many_rows_are_drawn_by_family(made_study):
    rows = view_of(made_study).rows()
    assert [family for family, _ in by_family(rows)] == list(FAMILIES[:4])
    assert by_family(rows[:8]) == [("", list(rows[:8]))]
    assert by_family([]) == []


@pytest.mark.parametrize(
    ("values", "top"), [((0.2, None, 0.5), 0.5), ((), None), ((None,), None), ((0.0,), None)]
)
def test_the_best(values, top):
    assert highest(values) == top
