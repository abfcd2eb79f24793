"""A whole study planned, against the same study run."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
from tiny_study import make_study, short_note, write

from fedmedlora.cli import main
from fedmedlora.experiment import run_study
from fedmedlora.plan import devices as devices_module
from fedmedlora.plan import plan as plan_module
from fedmedlora.plan.devices import Device, find_device, known_devices
from fedmedlora.plan.plan import plan_study
from fedmedlora.plan.table import duration, size
from fedmedlora.study_tables import Validation

METHODS = [
    "zero_shot",
    "single_site",
    "fed_medlora",
    "fed_medlora_plus",
    "ffa_lora",
    "fedsa_lora",
    "fedavg_full",
]
CPU = Device("cpu", "a CPU", 10**12, 1e10)
CARD = Device("card", "a card", 10**12, 1e12)


def test_traffic_is_exact(material, tmp_path):
    """Every byte that the run records, round by round: with sites away, and of every rule its own part."""
    study = make_study(
        material, tmp_path / "study", methods=METHODS, rounds=3,
        site_more={"northgate": "absent_rounds = [2]\n"}, every_round=False, evaluate=False, cohorts=(),
    )  # fmt: skip
    plan = plan_study(study, [])
    results = run_study(study, tmp_path / "out")
    assert [one.method for one in plan.traffic] == METHODS[2:]
    for planned in plan.traffic:
        method = next(m for m in results["methods"] if m["name"] == planned.method)
        sites = [r["sites"] for r in method["rounds"]]
        assert planned.total_bytes == sum(s["upload_bytes"] + s["download_bytes"] for r in sites for s in r)
        assert planned.download_bytes == sites[0][0]["download_bytes"]
        assert planned.upload_bytes == max(s["upload_bytes"] for s in sites[0])
        assert planned.trained_parameters == method["trained_parameters"]
        assert [len(r) for r in sites] == [2, 1, 2]
    assert plan.num_parameters == results["model"]["num_parameters"]
    assert plan.adapter_parameters == results["model"]["adapter_parameters"]
    full = plan.traffic[-1]
    assert full.download_bytes == plan.model_bytes


def test_memory_and_time_on_devices(material, tmp_path):
    study = make_study(material, tmp_path / "study", methods=["fed_medlora"], rounds=2)
    study = replace(study, model=replace(study.model, precision="auto"))
    plan = plan_study(study, [CPU, CARD, Device("small", "a small card", 10**6, 1e12)])
    cpu, card, small = plan.devices
    assert (cpu.precision, cpu.fits, cpu.advice) == ("float32", True, "")
    assert (card.precision, card.fits) == ("bfloat16", True)
    assert cpu.seconds == pytest.approx(
        100 * card.seconds, rel=0.2
    )  # the precision is its own, the work is not
    assert (small.fits, small.memory_bytes) == (False, card.memory_bytes)
    assert "smaller micro_batch" in small.advice
    # A million bytes is less than CUDA's own; a bit less than what is needed, and one setting is enough.
    tight = plan_study(study, [Device("tight", "a tight card", card.memory_bytes - 1000, 1e12)]).devices[0]
    assert tight.advice == "gradient_checkpointing = true"
    longer = make_study(material, tmp_path / "longer", methods=["fed_medlora"], rounds=4)
    assert 1.5 < plan_study(longer, [CPU]).devices[0].seconds / cpu.seconds < 2.1


def test_in_bfloat16_on_a_cpu_the_plan_counts_the_scores(material, tmp_path, monkeypatch):
    study = make_study(material, tmp_path / "study", methods=["fed_medlora"], rounds=2)
    study = replace(study, model=replace(study.model, precision="bfloat16"))
    (plain,) = plan_study(study, [CPU]).devices
    monkeypatch.setattr(plan_module, "attention_as_on", lambda model, **_: nullcontext())
    (fused,) = plan_study(study, [CPU]).devices
    assert plain.precision == "bfloat16"
    assert plain.memory_bytes > fused.memory_bytes


@pytest.mark.parametrize("by", ["coordinator", "sites"])
def test_adapters_that_are_validated_count(material, tmp_path, monkeypatch, by):
    study = make_study(material, tmp_path / "study", methods=["fed_medlora_plus"])
    if by == "sites":
        study = replace(study, validation=Validation(by="sites", held_out_sentences=2))
        for site in study.sites:  # enough notes to hold some out
            notes = [short_note(site.name, number, "train", 5) for number in range(6)]
            write(study.folder / site.train, notes)
    asked = []

    def traced(base, model, num_adapters, examples, how):
        asked.append((num_adapters, len({e.prefix for e in examples}), len(examples) <= how.micro_batch))
        return 10**9

    monkeypatch.setattr(plan_module, "trace_validation", traced)
    assert plan_study(study, [CARD]).devices[0].memory_bytes > 1.1e9
    assert asked == [(len(study.sites) - (by == "sites"), 1, True)]  # a site does not score its own
    plan_study(replace(study, rules={"fed_medlora_plus": {"weigh": "searched"}}), [CARD])
    assert asked[1:] == [(4, 1, True)]  # three temperatures and none
    by_f1 = replace(study.validation, by="coordinator", signal="f1", notes=("validation.jsonl",))
    plan_study(replace(study, validation=by_f1), [CARD])  # reads one after the other
    plain = replace(study, methods=("fed_medlora",), validation=Validation())
    assert plan_study(plain, [CARD]).devices[0].memory_bytes < 1e9
    assert len(asked) == 2


def test_where_weights_are_learned_the_gradient_on_the_validation_notes_counts(material, tmp_path):
    study = make_study(material, tmp_path / "study", methods=["fed_medlora_plus"], sites=("northgate",))
    note = short_note("northgate", 0, "validation", 7)
    long = replace(
        note, text=" ".join(note.text.split()), entities=(), modifiers=(), links=()
    )  # one sentence
    write(study.folder / "validation.jsonl", [long])
    weighed, learned = (
        plan_study(replace(study, rules={"fed_medlora_plus": {"weigh": weigh}}), [CARD]).devices[0]
        for weigh in ("losses", "learned")
    )
    assert learned.memory_bytes > weighed.memory_bytes


def test_the_heaviest_step_of_all_sites_counts(material, tmp_path):
    def peak(*sites):
        study = make_study(material, tmp_path / "-".join(sites), methods=["fed_medlora"], sites=sites)
        return plan_study(study, [CARD]).devices[0].memory_bytes

    alone = [peak(site) for site in ("lakeside", "northgate")]
    assert peak("lakeside", "northgate") == max(alone) > min(alone)


@pytest.mark.parametrize(
    ("change", "num_senders"),
    [
        ({"methods": ["zero_shot"]}, 0),
        ({"methods": ["endpoint"], "more": '[endpoint]\nurl = "http://127.0.0.1:1/v1"\nmodel = "x"\n'}, 0),
        ({"methods": ["fed_medlora"], "more": "[federation]\nnum_sites = 3\n"}, 1),
        (
            {
                "methods": ["few_shot", "centralized", "fedprox"],
                "training": 'batching = "padded"\ngradient_checkpointing = true\n',
            },
            1,
        ),
    ],
    ids=["reading", "elsewhere", "dealt", "padded"],
)
def test_every_study_has_a_plan(material, tmp_path, change, num_senders):
    study = make_study(material, tmp_path / "study", rounds=1, **change)
    plan = plan_study(study, [CPU])
    assert len(plan.traffic) == num_senders
    assert [one.fits for one in plan.devices] == ([] if study.methods == ("endpoint",) else [True])


def test_what_is_not_in_the_numbers_is_said(material, tmp_path, tiny_encoder):
    tiny_encoder(tmp_path / "bert")
    study = make_study(
        material, tmp_path / "study", methods=["fed_medlora", "encoder_fedavg"], rounds=1,
        head="seeds = [1, 2, 3]\n", more=f'[encoder]\nname = "{tmp_path / "bert"}"\n',
    )  # fmt: skip
    plan = plan_study(study, [])
    assert plan.left_out == ("encoder_fedavg",)
    assert plan.num_runs == 3
    assert [one.method for one in plan.traffic] == ["fed_medlora"]


def test_devices_by_name():
    assert set(known_devices()) == {"rtx-4090", "rtx-4090-laptop", "rtx-3060-ti", "h100", "h200", "cpu"}
    for name in known_devices():
        device = find_device(name)
        assert min(device.memory_bytes, device.flop_s) > 1e8, name
        assert device.is_cpu == (name == "cpu")
    assert find_device("h100", "bfloat16") == find_device("h100")
    with pytest.raises(ValueError, match="did you mean rtx-4090"):
        find_device("rtx-4089")
    assert find_device("H200") == find_device("h200")
    assert find_device("RTX-4090").title == "RTX 4090"
    assert find_device("CPU").is_cpu
    with pytest.raises(ValueError, match="'Abacus': not known"):
        find_device("Abacus")


def test_a_cpu_is_measured_in_the_precision_of_the_study(monkeypatch):
    monkeypatch.setattr(devices_module, "product_rate", {"float32": 1e9, "bfloat16": 1e12}.get)
    rates = {p: find_device("cpu", p).flop_s for p in ("auto", "float32", "bfloat16")}
    assert rates["auto"] == rates["float32"] < 1e9 < 1e10 < rates["bfloat16"]


def test_the_command(tiny_study, capsys):
    assert main(["plan", str(tiny_study / "study.toml"), "--device", "h100", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [one["method"] for one in plan["traffic"]] == ["fed_medlora"]
    assert plan["devices"][0]["device"] == "H100 SXM"
    assert main(["plan", str(tiny_study / "study.toml"), "--device", "rtx-4090"]) == 0
    shown = capsys.readouterr().out
    exact = f"{plan['traffic'][0]['upload_bytes']:,}"
    for word in (exact, "RTX 4090", "yes"):
        assert word in shown
    flat = " ".join(shown.replace("│", " ").split())
    assert "A GPU's speed is assumed, not measured: 30% of its maker's peak in bfloat16." in flat
    assert plan["devices"][0]["speed"] == "30% of its peak, assumed"
    assert main(["plan", str(tiny_study / "study.toml"), "--device", "CPU"]) == 0
    shown = capsys.readouterr().out
    assert "is assumed" not in shown
    assert "measured" in shown
    assert main(["plan", str(tiny_study / "study.toml"), "--device", "abacus"]) == 2
    assert "known are" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0.3, "below 1 s"),
        (5, "about 5 s"),
        (89, "about 89 s"),
        (90, "about 2 min"),
        (5399, "about 90 min"),
        (5400, "about 1.5 h"),
    ],
)
def test_seconds_for_people(seconds, says):
    assert duration(seconds) == says


def test_bytes_for_people():
    assert [size(n) for n in (0, 999, 1000, 1.5e6, 2.5e9, 1e13)] == [
        "0 B", "999 B", "1.0 kB", "1.5 MB", "2.5 GB", "10000.0 GB",
    ]  # fmt: skip
