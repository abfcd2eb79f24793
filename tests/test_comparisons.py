"""Every comparison of a study at once, on tiny sites with a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny_study import NEW_SITE, SITES, make_study, without_time

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.experiment import run_study
from fedmedlora.model.saved import read_saved_adapter
from fedmedlora.report.results import validate
from fedmedlora.study import parse_study
from fedmedlora.training.site import refuse_rounded

RULES = ("fed_medlora", "fed_medlora_plus", "fedprox", "ffa_lora", "fedsa_lora", "fedavg_full")
METHODS = ["zero_shot", "few_shot", *RULES]
MORE = """\
[rules.fed_medlora_plus]
weigh = "learned"
steps = 2
[few_shot]
num_examples = 2
[adaptation]
num_notes = [0, 1, 2]
starts = ["zero_shot", "fed_medlora", "fedsa_lora"]
"""


@pytest.fixture(scope="module")
def run(material, tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparisons")
    study = make_study(material, folder, methods=METHODS, more=MORE, after=NEW_SITE, cohorts=())
    out = folder / "out"
    return study, out, run_study(study, out)


@pytest.fixture(scope="module")
def by_name(run):
    return {method["name"]: method for method in run[2]["methods"]}


def test_every_method_is_there_in_order_and_valid(run):
    names = [method["name"] for method in run[2]["methods"]]
    adaptations = [
        f"new_site:latecomer:{n}:{start}"
        for n in (0, 1, 2)
        for start in ("zero_shot", "fed_medlora", "fedsa_lora")
    ]
    assert names == [*METHODS, *adaptations]
    validate(run[2])


def traffic(method):
    return [
        (site["upload_bytes"], site["download_bytes"]) for one in method["rounds"] for site in one["sites"]
    ]


def test_what_does_not_travel_is_not_counted(by_name):
    """A (2, d_in) and B (d_out, 2) of every layer: A alone and B alone add up to both."""
    up = {name: traffic(by_name[name])[0][0] for name in RULES}
    assert up["fed_medlora"] == up["fed_medlora_plus"] == up["fedprox"]
    assert up["fedsa_lora"] < up["fed_medlora"]
    assert up["ffa_lora"] < up["fed_medlora"]
    headers = 3 * 20_000
    assert abs(up["fedsa_lora"] + up["ffa_lora"] - up["fed_medlora"]) < headers
    assert up["fedavg_full"] > 2 * up["fed_medlora"]


def test_ffa_keeps_a_as_it_was_drawn_and_fedsa_keeps_b_at_the_sites(run):
    study, out, _ = run
    found = {name: read_saved_adapter(out / "adapters" / name) for name in RULES if name != "fedavg_full"}
    assert not (out / "adapters" / "fedavg_full").exists()
    a_of = {name: {k: v for k, v in f.arrays.items() if ".lora_A." in k} for name, f in found.items()}
    one_round = [Adapter.from_bytes((out / "methods" / "ffa_lora" / "round-001.safetensors").read_bytes())]
    assert all(".lora_B." in key for adapter in one_round for key in adapter.arrays)
    moved = {name: any((a_of[name][k] != a_of["ffa_lora"][k]).any() for k in a_of[name]) for name in a_of}
    assert moved == dict.fromkeys(("fed_medlora", "fed_medlora_plus", "fedprox", "fedsa_lora"), True) | {
        "ffa_lora": False
    }
    own = sorted((out / "own").rglob("*.safetensors"))
    assert len(own) == len(SITES) * study.training.rounds
    assert all(".lora_B." in k for p in own for k in Adapter.from_bytes(p.read_bytes()).arrays)
    # What is saved is the mean of the sites' own B.
    last = [Adapter.from_bytes(p.read_bytes()) for p in own if p.stem == f"{study.training.rounds:04d}"]
    key = next(k for k in found["fedsa_lora"].arrays if ".lora_B." in k)
    mean = (last[0].arrays[key].astype("f8") + last[1].arrays[key]) / 2
    assert found["fedsa_lora"].arrays[key] == pytest.approx(mean, abs=1e-7)


def test_the_base_model_is_itself_again_after_full_training(run, by_name):
    """FedAvg over all parameters ran last of the rules; what came after it started from the base model."""
    scratch = by_name["new_site:latecomer:0:zero_shot"]["evaluations"]
    zero = [e for e in by_name["zero_shot"]["evaluations"] if e["cohort"] == "latecomer"]
    assert without_time(scratch) == without_time(zero)


def test_a_new_site_is_read_alone_and_trains_one_round(by_name):
    for name, method in by_name.items():
        if not name.startswith("new_site:"):
            continue
        _, site, num, _ = name.split(":")
        assert {e["cohort"] for e in method["evaluations"]} == {site}
        assert len(method["rounds"]) == (num != "0")
        if num != "0":
            (one,) = method["rounds"]
            assert one["weights"] == {site: 1.0}
            assert method["adaptation"] == {"site": site, "num_notes": int(num), "start": name.split(":")[3]}
    started = {
        name: method["rounds"][0]
        for name, method in by_name.items()
        if name.startswith("new_site:latecomer:1")
    }
    assert len({json.dumps(without_time(r["sites"])) for r in started.values()}) == 3  # three starts


def test_learned_weights_sum_to_one_and_cost_time(by_name):
    for one in by_name["fed_medlora_plus"]["rounds"]:
        assert sum(one["weights"].values()) == pytest.approx(1.0)
        assert one["validate_seconds"] > 0
    assert by_name["fed_medlora"]["rounds"][0]["validate_seconds"] is None


def test_few_shot_reads_another_prompt_than_zero_shot(run):
    _, out, _ = run
    zero, few = (
        json.loads((out / "methods" / name / "latecomer-constrained.details.json").read_text())
        for name in ("zero_shot", "few_shot")
    )
    assert zero["calibration"]["num_gold"] == few["calibration"]["num_gold"] > 0
    assert zero != few


def test_details_add_up_to_the_scores(run, by_name):
    _, out, _ = run
    for method in by_name.values():
        folder = out / "methods" / method["name"].replace(":", "-")
        for one in method["evaluations"]:
            details = json.loads((folder / f"{one['cohort']}-{one['decoding']}.details.json").read_text())
            for kind, by_criterion in details["per_note"].items():
                for criterion, triples in by_criterion.items():
                    numbers = one["scores"][kind][criterion]
                    totals = [sum(column) for column in zip(*triples, strict=True)]
                    assert totals == [numbers["tp"], numbers["fp"], numbers["fn"]]
            sure = details["calibration"]
            strict = one["scores"]["entities"]["strict"]
            assert sum(sure["right"]) == strict["tp"]
            assert len(sure["right"]) == strict["tp"] + strict["fp"]
            assert sure["num_gold"] == strict["tp"] + strict["fn"]
            assert all(0 <= c <= 1 for c in sure["confidence"])


def test_a_share_of_the_sites_and_one_that_is_away(material, tmp_path):
    study = make_study(
        material, tmp_path, methods=["fed_medlora"], rounds=3, evaluate=False, every_round=False,
        training="participation = 0.5\n", site_more={"lakeside": "absent_rounds = [2]\n"},
    )  # fmt: skip
    results = run_study(study, tmp_path / "out")
    took_part = [sorted(one["weights"]) for one in results["methods"][0]["rounds"]]
    assert [len(names) for names in took_part] == [1, 1, 1]
    assert took_part[1] == ["northgate"]


def refused(text: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller looks at the words
        parse_study(text)
    return str(caught.value)


SMALL = 'name = "s"\nmethods = {}\n{}\n[[sites]]\nname = "a"\ntrain = "a.jsonl"\ntest = "t.jsonl"\n'


@pytest.mark.parametrize(
    ("methods", "more", "message"),
    [
        ('["few_shot"]', "", "few_shot shows solved examples out of the validation notes"),
        (
            '["zero_shot"]',
            '[adaptation]\nstarts = ["fed_medlora"]',
            '"fed_medlora" gives no adapter in this study; it can start from zero_shot',
        ),
        ('["fedavg_full"]', '[adaptation]\nstarts = ["fedavg_full"]', '"fedavg_full" gives no adapter'),
        ('["fedprox"]', "[rules.fedprox]\nmu = -1.0", "mu must be a number, 0 or above"),
    ],
)
def test_what_cannot_be_compared_is_refused(methods, more, message):
    assert message in refused(SMALL.format(methods, more))


def test_simulated_sites_need_their_notes_here():
    text = SMALL.format('["fed_medlora"]', "") + "label_noise = 0.2\n"
    with pytest.raises(ValueError, match="a site at another machine says itself what it trains on"):
        parse_study(text, sites_are_here=False)
    with pytest.raises(ValueError, match="notes at other machines cannot be dealt"):
        parse_study(SMALL.format('["fed_medlora"]', "[federation]\nnum_sites = 3"), sites_are_here=False)


def test_a_whole_model_in_rounded_weights_is_refused_before_anything_is_written(material, tmp_path):
    study = make_study(material, tmp_path, methods=["zero_shot", "fedavg_full"], every_round=False)
    rounded = replace(study, model=replace(study.model, precision="bfloat16"))
    with pytest.raises(ValueError, match=r"needs float32 weights, and these are bfloat16"):
        run_study(rounded, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_notes_than_a_new_site_has_are_refused_before_anything_is_written(material, tmp_path):
    more = "[adaptation]\nnum_notes = [1, 99]\n"
    study = make_study(
        material, tmp_path, methods=["fed_medlora"], more=more, after=NEW_SITE, cohorts=(), every_round=False
    )
    with pytest.raises(ValueError, match=r"\[adaptation\] num_notes: latecomer: 99 notes are asked for"):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_whole_model_in_four_bits_cannot_be_trained():
    base = SimpleNamespace(precision="float32", quantization="nf4")
    with pytest.raises(ValueError, match=r"needs float32 weights, and these are nf4"):
        refuse_rounded(base)  # type: ignore[arg-type]
