"""A whole study under codecs that lose something, in this process."""

from __future__ import annotations

import json

import pytest
from interrupting import Interrupting
from tiny_study import make_study, without_time

from fedmedlora.experiment import run_study
from fedmedlora.model.saved import read_saved_adapter
from fedmedlora.plan.plan import plan_study
from fedmedlora.results.check import validate
from fedmedlora.study import parse_study

RULES = ["fed_medlora", "fed_medlora_plus", "fedprox", "ffa_lora", "fedsa_lora", "fedavg_full"]
SHAPED = {"northgate": "absent_rounds = [2]\n"}


def exchange(upload: str, download: str, share: float = 0.1) -> str:
    return f'[exchange]\nupload = "{upload}"\ndownload = "{download}"\ntop_k_share = {share}\n'


def sizes(results, name):
    method = next(m for m in results["methods"] if m["name"] == name)
    return [
        {s["site"]: (s["upload_bytes"], s["download_bytes"]) for s in r["sites"]} for r in method["rounds"]
    ]


def arrays(out, method):
    return {n: a.tobytes() for n, a in read_saved_adapter(out / "adapters" / method).arrays.items()}


@pytest.mark.parametrize(
    ("upload", "download"),
    [("bfloat16", "float32"), ("int8", "bfloat16"), ("top_k", "int4")],
)
def test_every_rule_and_every_byte(material, tmp_path, upload, download):
    """With a site away in round 2: what the plan says travels is what the run records, round by round."""
    study = make_study(
        material, tmp_path / "study", methods=RULES, rounds=3, more=exchange(upload, download),
        site_more=SHAPED, every_round=False, evaluate=False, cohorts=(),
    )  # fmt: skip
    plan = plan_study(study, [])
    results = run_study(study, tmp_path / "out")
    validate(results)
    assert results["study"]["exchange"] == {"upload": upload, "download": download, "top_k_share": 0.1}
    for planned in plan.traffic:
        rounds = sizes(results, planned.method)
        assert planned.total_bytes == sum(up + down for one in rounds for up, down in one.values())
        assert planned.download_bytes == max(down for _, down in rounds[0].values())
        assert planned.upload_bytes == max(up for up, _ in rounds[0].values())
        assert [len(one) for one in rounds] == [2, 1, 2]
        # Who was away is sent all of it, in float32.
        late, other = (rounds[2][site][1] for site in ("northgate", "lakeside"))
        assert (other < late) == (download != "float32")
    full = sizes(results, "fedavg_full")
    assert (full[0]["lakeside"][1] > full[1]["lakeside"][1]) == (download != "float32")  # nobody has it yet


def test_resume_from_many_points_gives_the_same_bits(material, tmp_path):
    study = make_study(
        material, tmp_path / "study", methods=["fed_medlora", "fedsa_lora"], rounds=3, modifiers=False,
        more=exchange("top_k", "int4"), site_more=SHAPED, every_round=False, cohorts=(),
    )  # fmt: skip
    progress = Interrupting()
    results = run_study(study, tmp_path / "out", progress=progress)
    labels = progress.labels
    trains = [number for number, label in enumerate(labels) if "trains" in label]
    assert len(trains) == 10
    for at in (trains[1], trains[4], trains[-1]):  # in the first round, after the absence, at the very end
        stopped = tmp_path / str(at)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, stopped, progress=Interrupting(at, inside=True))
        assert (stopped / "residuals").exists()
        resumed = run_study(study, stopped, resume=True)
        assert not (stopped / "residuals").exists()
        assert without_time(resumed) == without_time(results), labels[at]
        for method in ("fed_medlora", "fedsa_lora"):
            assert arrays(stopped, method) == arrays(tmp_path / "out", method), labels[at]
    again = run_study(study, tmp_path / "out", resume=True)  # finished: nothing is trained, or missed
    assert without_time(again) == without_time(results)


def test_only_federations_are_compressed_and_the_default_is_what_it_was(material, tmp_path):
    methods = ["single_site", "fed_medlora"]
    found = {}
    for name, more in {
        "none": "",
        "exact": exchange("float32", "float32"),
        "int4": exchange("int4", "int4"),
    }.items():
        study = make_study(
            material, tmp_path / name / "study", methods=methods, more=more, every_round=False,
            evaluate=False, cohorts=(),
        )  # fmt: skip
        results = run_study(study, tmp_path / name / "out", shared=tmp_path / "shared")
        found[name] = (
            {m: arrays(tmp_path / name / "out", m) for m in ("single_site-lakeside", "fed_medlora")},
            {m: sizes(results, m) for m in ("single_site:lakeside", "fed_medlora")},
        )
    assert found["none"] == found["exact"]
    for part, alone in ((0, "single_site-lakeside"), (1, "single_site:lakeside")):
        assert found["none"][part][alone] == found["int4"][part][alone]
        assert found["none"][part]["fed_medlora"] != found["int4"][part]["fed_medlora"]
    # The first round's training is the same whatever travels afterwards, and is done once.
    first = [p for p in (tmp_path / "shared" / "updates").glob("*.json") if "-001-" in p.name]
    assert len(first) == 2


SITE = '[[sites]]\nname = "a"\ntrain = "a"\n'


@pytest.mark.parametrize(
    ("table", "methods", "notices"),
    [
        ('upload = "int8"', ["fed_medlora"], []),
        ('upload = "int8"', ["single_site"], ["[exchange] upload: no effect, no method of the study sends"]),
        ("top_k_share = 0.1", ["fed_medlora"], ["top_k_share: no effect, neither upload nor download is"]),
        ('download = "top_k"\ntop_k_share = 0.1', ["fed_medlora"], []),
        ('upload = "int8"', ["encoder_fedavg"], []),
    ],
)
def test_settings_without_effect_are_said(table, methods, notices):
    text = f'name = "s"\nmethods = {json.dumps(methods)}\n[exchange]\n{table}\n'
    text += "[evaluation]\nevery_round = false\n"
    _, found = parse_study(text + SITE + 'test = "t"\n')
    assert len(found) == len(notices)
    assert all(part in notice for part, notice in zip(notices, found, strict=True))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            'upload = "int16"',
            r'upload: unknown codec "int16"; did you mean int[48]\?; known codecs: float32, ',
        ),
        ('download = "../int8"', "download: unknown codec"),
        ("top_k_share = 0.0", "out of range; it must be above 0 and at most 1"),
        ("top_k_share = 1.5", "out of range"),
        ("share = 0.5", "unknown key"),
    ],
)
def test_wrong_settings_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        parse_study(f'name = "s"\n[exchange]\n{table}\n{SITE}')
