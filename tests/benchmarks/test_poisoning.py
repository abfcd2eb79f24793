"""One bad site among honest ones, on a tiny model: what is changed on the way, what is kept, what is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from poisoning import DEFAULT, SENT, Cell, Poisoned, run, table
from tiny_study import make_study

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.rounds import SiteReport


class Carrier:
    """Two sites that move one number from 1 to 3."""

    def train(self, round_num, current, change=None):
        for site in ("good", "bad"):
            update = SiteUpdate(site, round_num, adapter(3.0), current.hash(), 5)
            yield SiteReport(update, 1, 0.5, 1.0, 10, 20, 30)


def adapter(value):
    return Adapter({"w": np.array([value], np.float32)})


@pytest.mark.parametrize(("attack", "sent"), [("none", 3.0), ("sign", -1.0), ("x10", 21.0), ("-x10", -19.0)])
def test_one_site_alone_is_changed_on_the_way(attack, sent):
    carrier = Poisoned(Carrier(), "bad", SENT[attack])
    good, bad = carrier.train(1, adapter(1.0))
    assert good.update.adapter == adapter(3.0)
    assert bad.update.adapter == adapter(sent)
    assert (bad.update.site, bad.update.started_from, bad.seconds) == ("bad", adapter(1.0).hash(), 1.0)


def test_a_tiny_study_is_run_and_gone_on_with(material, tmp_path, one_thread):
    study = make_study(
        material, tmp_path / "study", methods=["fed_medlora", "trimmed_mean"], rounds=1, modifiers=False,
        sites=("lakeside", "northgate", "stonebridge"), cohorts=(),
    )  # fmt: skip
    told: list[str] = []
    out = tmp_path / "out"
    cells = run(study, out, ["none", "sign", "labels"], "lakeside", told.append)
    assert [(cell.attack, cell.rule) for cell in cells] == [
        (attack, rule) for attack in ("none", "sign", "labels") for rule in ("fed_medlora", "trimmed_mean")
    ]
    assert told[0].startswith("seed 3, none, fed_medlora: F1 ")
    assert set(cells[0].counts) == {"lakeside", "northgate", "stonebridge"}
    assert [cell.figures[0].keys() for cell in cells[:2]] == [set(), {"num_bad", "refactoring_error"}]
    # Each site was trained once, and the bad one once more on wrong labels, whatever the rule.
    updates = out / "seed-3" / "updates"
    assert len(list(updates.glob("*.safetensors"))) == 4
    adapters = {path: path.read_bytes() for path in (out / "seed-3" / "cells").glob("*/*/*.safetensors")}
    assert len(set(adapters.values())) == 6
    before = {path: path.stat().st_mtime_ns for path in Path(out / "seed-3").rglob("*") if path.is_file()}
    assert run(study, out, ["none", "sign", "labels"], "lakeside", told.append) == cells
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [one["rule"] for one in json.loads((out / "poisoning.json").read_text())][:1] == ["fed_medlora"]
    with pytest.raises(ValueError, match="differs in bad"):
        run(study, out, ["none"], "northgate", told.append)


def test_what_cannot_be_attacked_is_refused(material, tmp_path):
    study = make_study(material, tmp_path / "study", methods=["zero_shot", "fed_medlora"])
    with pytest.raises(ValueError, match="zero_shot cannot be attacked here"):
        run(study, tmp_path / "out", ["none"])
    study = make_study(material, tmp_path / "study", methods=["ffa_lora"])
    with pytest.raises(ValueError, match="ffa_lora trains otherwise"):
        run(study, tmp_path / "out", ["none"])
    study = make_study(material, tmp_path / "study", methods=["fed_medlora"])
    with pytest.raises(ValueError, match="--bad nobody: no such site; there are lakeside, northgate"):
        run(study, tmp_path / "out", ["none"], "nobody")


def test_the_table_by_hand():
    def cell(rule, attack, counts, figures=(), seed=1, stopped=""):
        return Cell(seed, attack, rule, counts, figures, (0.2,), stopped)

    lost = ({"refactoring_error": 0.1}, {"refactoring_error": 0.3})
    cells = [
        cell("fed_medlora", "none", {"a": (3, 1, 1), "b": (1, 1, 1)}),  # 8 / (8 + 2 + 2)
        cell("fed_medlora", "none", {"a": (1, 1, 1)}, seed=2),  # 2 / 4
        cell("fed_medlora", "sign", {}, stopped="a reason"),
        cell("krum", "none", {"a": (1, 0, 0)}, lost),
        cell("krum", "sign", {"a": (0, 0, 4)}, lost),
    ]
    assert table(cells, ["none", "sign"]).splitlines() == [
        "| rule | none | sign | lost in refactoring |",
        "|---|---|---|---|",
        "| Fed-MedLoRA | 0.583 | stopped |  |",
        "| Krum | 1.000 | 0.000 | 20.0 % |",
    ]
    assert set(DEFAULT) <= set(SENT)
