"""A made-up study of many runs: every mean in it follows from its runs; no number in it was measured."""

import random
from statistics import fmean

from made_up_run import LABELS, evaluation, make_results, one_round

SITES = ("lakeside", "northgate", "riverbend")
MORE_SITES = ("elmfield", "oakham")
EXTERNAL = ("stonebridge", "millpond")
NEW = "saltmarsh"
NUMS_NOTES = (5, 20, 80)
STARTS = {"zero_shot": 0.1, "fed_medlora_plus": 0.6, "single_site:lakeside": 0.4}
_, _, PLAIN, PLUS = LABELS

# name -> (label, F1 that it hovers around, sites per round, trained parameters)
PROMPTED = {"zero_shot": ("Zero-shot", 0.1), "few_shot": ("Few-shot", 0.24), "endpoint": ("Endpoint", 0.5)}
TRAINED = {
    **{f"single_site:{s}": (f"Single site: {s}", 0.5 - 0.02 * i) for i, s in enumerate(SITES)},
    "centralized": ("Centralized", 0.69),
    "fed_medlora": (PLAIN, 0.62),
    "fed_medlora_plus": (PLUS, 0.66),
    "fedsa_lora": ("FedSA-LoRA", 0.6),
    "ffa_lora": ("FFA-LoRA", 0.57),
    "fedprox": ("FedProx", 0.61),
    "fedavg_full": ("FedAvg, whole model", 0.64),
    "encoder_single_site:lakeside": ("Encoder, single site: lakeside", 0.44),
    "encoder_fedavg": ("Encoder, FedAvg", 0.55),
}
FEDERATED = ("fed_medlora", "fed_medlora_plus", "fedprox")
# name -> (title, group, x, x_label, changes, what it costs, sites)
ARMS = {
    "main": ("The study as it stands", "", None, "", {}, 0.0, SITES),
    "noise-20": ("20 % of lakeside's labels corrupted", "A noisy site", 0.2, "share of labels corrupted",
                 {"sites": [{"name": "lakeside", "noise": 0.2}]}, 0.03, SITES),
    "noise-40": ("40 % of lakeside's labels corrupted", "A noisy site", 0.4, "share of labels corrupted",
                 {"sites": [{"name": "lakeside", "noise": 0.4}]}, 0.07, SITES),
    "sites-2": ("2 sites", "Number of sites", 2, "sites", {"num_sites": 2}, 0.05, SITES[:2]),
    "sites-5": ("5 sites", "Number of sites", 5, "sites", {"num_sites": 5}, -0.02, SITES + MORE_SITES),
    "half": ("Half of the sites per round", "Participation", None, "", {"participation": 0.5}, 0.02, SITES),
}  # fmt: skip


def make_study(seeds=(0, 1, 2), only=None):
    """All of it, or the methods that ``only`` names where its size does not matter."""
    run = make_results()
    arms = [_arm(name, run["cohorts"][0]) for name in ARMS]
    runs = [_run(arm, seed, only) for arm in arms for seed in seeds]
    scores = _scores(runs, seeds)
    means = _means(arms, scores)
    return {
        **{key: run[key] for key in ("created_utc", "model")},
        "format": "fedmedlora-study-results",
        "version": 1,
        "name": "Three synthetic hospitals, six arms",
        "command": ["fedmedlora", "run", "hospitals.toml", "--out", "all runs"],
        "study": {**run["study"], "seeds": list(seeds)},
        "environment": {key: value for key, value in run["environment"].items() if key != "seed"},
        "seeds": list(seeds),
        "arms": arms,
        "runs": runs,
        "scores": scores,
        "means": means,
        "comparisons": _comparisons(arms, means, scores),
        "calibration": [
            _calibration(random.Random(f"{method} {cohort}"), method, cohort, place)
            for place, method in enumerate(("centralized", "fed_medlora", "fed_medlora_plus"))
            if only is None or method in only
            for cohort in (*SITES, EXTERNAL[0])
        ],
    }


def _arm(name, example):
    title, group, x, x_label, changes, _, sites = ARMS[name]
    kinds = dict.fromkeys(sites, "site") | dict.fromkeys(EXTERNAL, "external") | {NEW: "new-site"}
    cohorts = []
    for cohort, kind in kinds.items():
        notes = {"num_train_notes": 120 if kind == "site" else 0, "num_test_notes": 40}
        cohorts.append({**example, "name": cohort, "kind": kind, **notes})
    return {
        "name": name, "title": title, "group": group, "x": x, "x_label": x_label, "changes": changes,
        "cohorts": cohorts, "num_sites": len(sites),
    }  # fmt: skip


def _run(arm, seed, only):
    methods = PROMPTED | TRAINED if arm["name"] == "main" else {name: TRAINED[name] for name in FEDERATED}
    cost, sites = ARMS[arm["name"]][5:]
    cohorts = [cohort["name"] for cohort in arm["cohorts"]]
    found = []
    for name, (label, level) in methods.items():
        rng = random.Random(f"{arm['name']} {seed} {name}")
        level += rng.uniform(-0.015, 0.015) - cost
        at = () if name in PROMPTED else (name.split(":")[1],) if ":" in name else sites
        at = ("all sites",) if name == "centralized" else at
        whole = name in ("fedavg_full",)
        rounds = [one_round(rng, n, at, name.endswith("plus"), level) for n in range(1, 5)] if at else []
        for one in rounds:
            for site in one["sites"]:
                site["upload_bytes"] = site["download_bytes"] = 538_000_000 if whole else 19_550_000
        found.append(_method(rng, name, label, rounds, cohorts, level))
    found = [method for method in found if only is None or method["name"] in only]
    if arm["name"] == "main":
        for start, level in STARTS.items() if only is None else ():
            for place, num_notes in enumerate(NUMS_NOTES):
                rng = random.Random(f"{seed} {start} {num_notes}")
                label = f"{NEW}: {num_notes} notes from {methods[start][0]}"
                rounds = [one_round(rng, 1, (NEW,), False, level)]
                reached = level + (0.7 - level) * (place + 1) / 4 + rng.uniform(-0.01, 0.01)
                adapted = _method(rng, f"new_site:{NEW}:{num_notes}:{start}", label, rounds, [NEW], reached)
                adapted["adaptation"] = {"site": NEW, "num_notes": num_notes, "start": start}
                found.append(adapted)
    return {"arm": arm["name"], "seed": seed, "folder": f"{arm['name']}/seed-{seed}", "methods": found}


def _method(rng, name, label, rounds, cohorts, level):
    usage = {"num_requests": 1500, "num_failed": 2, "num_retries": 11, "prompt_tokens": 910_000,
             "completion_tokens": 88_000, "cost": 4.25, "currency": "EUR"}  # fmt: skip
    whole = name == "fedavg_full"
    decoding = "free" if name == "endpoint" else "constrained"
    return {
        "name": name,
        "label": label,
        "adapter": f"adapters/{name.replace(':', '-')}" if rounds else None,
        "seconds": sum(site["seconds"] for one in rounds for site in one["sites"]),
        "rounds": rounds,
        "evaluations": [
            evaluation(rng, cohort, decoding, level - 0.08 * (cohort in EXTERNAL)) for cohort in cohorts
        ],
        "adaptation": None,
        "usage": usage if name == "endpoint" else None,
        "trained_parameters": (134_515_008 if whole else 4_884_480) if rounds else None,
    }


def _mean(values):
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _around(value, half):
    return None if value is None else [max(0.0, value - half), min(1.0, value + half)]


def _scores(runs, seeds):
    held = {}
    for run in runs:
        for method in run["methods"]:
            for one in method["evaluations"]:
                for kind, score in one["scores"].items():
                    for criterion, numbers in score.items():
                        key = (run["arm"], method["name"], one["cohort"], one["decoding"], kind, criterion)
                        held.setdefault(key, {})[run["seed"]] = numbers
    found = []
    for key, by_seed in held.items():
        numbers = [by_seed[seed] for seed in seeds]
        f1s = [one["f1"] for one in numbers]
        per_type = {
            name: {
                "f1": _mean(one["per_type"][name]["f1"] for one in numbers),
                "num_gold": numbers[0]["per_type"][name]["tp"] + numbers[0]["per_type"][name]["fn"],
            }
            for name in numbers[0]["per_type"]
        }
        found.append(
            dict(zip(("arm", "method", "cohort", "decoding", "kind", "criterion"), key, strict=True))
            | {key: _mean(one[key] for one in numbers) for key in ("f1", "precision", "recall")}
            | {"f1_by_seed": f1s, "interval": _around(_mean(f1s), 0.04), "per_type": per_type}
        )
    return found


def _means(arms, scores):
    kinds = {(arm["name"], c["name"]): c["kind"] for arm in arms for c in arm["cohorts"]}
    groups = {}
    for one in scores:
        over = kinds[one["arm"], one["cohort"]]
        key = (one["arm"], one["method"], one["decoding"], one["kind"], one["criterion"], over)
        groups.setdefault(key, []).append(one)
    found = []
    for key, ones in groups.items():
        by_seed = [_mean(f1s) for f1s in zip(*(one["f1_by_seed"] for one in ones), strict=True)]
        worst = min((one for one in ones if one["f1"] is not None), key=lambda one: one["f1"], default=None)
        found.append(
            dict(zip(("arm", "method", "decoding", "kind", "criterion", "over"), key, strict=True))
            | {"num_cohorts": len(ones), "f1": _mean(by_seed), "interval": _around(_mean(by_seed), 0.03)}
            | {"f1_by_seed": by_seed, "worst_cohort": worst and worst["cohort"]}
            | {"worst_f1": worst and worst["f1"]}
        )
    return found


def _comparisons(arms, means, scores):
    held = {(m["arm"], m["method"], m["kind"], m["criterion"], m["over"]): m for m in means}
    held |= {
        (s["arm"], s["method"], s["kind"], s["criterion"], f"cohort:{s['cohort']}"): s
        for s in scores
        if s["cohort"] in EXTERNAL
    }
    others = ["zero_shot", "centralized", *(f"single_site:{site}" for site in SITES), "fed_medlora"]
    overs = ("site", "external", *(f"cohort:{name}" for name in EXTERNAL))
    found = []
    for arm in arms:
        for b in others:
            for a in ("fed_medlora", "fed_medlora_plus"):
                for kind in ("entities", "modifiers_gold"):
                    for criterion in ("strict", "lenient"):
                        for over in overs:
                            one = held.get((arm["name"], a, kind, criterion, over))
                            other = held.get((arm["name"], b, kind, criterion, over))
                            if a != b and one and other:
                                names = (arm["name"], kind, criterion, over, a, b)
                                found.append(_comparison(names, one["f1"] - other["f1"]))
    return found


def _comparison(names, difference):
    arm, kind, criterion, over, a, b = names
    p = max(0.0005, min(1.0, 0.9 - 12 * abs(difference)))
    return {
        "arm": arm, "decoding": "constrained", "kind": kind, "criterion": criterion, "over": over,
        "a": a, "b": b, "difference": difference, "interval": [difference - 0.03, difference + 0.03],
        "p": p, "p_holm": min(1.0, 4 * p), "significant": 4 * p < 0.05,
    }  # fmt: skip


def _calibration(rng, method, cohort, place):
    bins = []
    for index in range(10):
        num = rng.randint(5, 60) if index > 1 else 0
        middle = (index + 0.5) / 10
        right = min(1.0, max(0.0, middle - 0.12 + 0.04 * place + rng.uniform(-0.05, 0.05)))
        bins.append(
            {"low": index / 10, "high": (index + 1) / 10, "num": num,
             "mean_confidence": middle if num else None, "share_right": right if num else None}
        )  # fmt: skip
    total = sum(one["num"] for one in bins)
    gaps = [one["num"] * abs(one["share_right"] - one["mean_confidence"]) for one in bins if one["num"]]
    curve = [
        {"threshold": 1 - step / 12, "precision": 1 - 0.45 * (step / 12) ** 2, "recall": step / 12 * 0.8}
        for step in range(1, 13)
    ]
    return {
        "arm": "main", "method": method, "cohort": cohort, "num_predictions": total,
        "ece": sum(gaps) / total, "bins": bins, "average_precision": 0.61 + 0.02 * place, "curve": curve,
    }  # fmt: skip
