"""A made-up run: five cohorts, four methods, five rounds; no number in it was measured."""

import random

SITES = ("lakeside", "northgate", "riverbend")
COHORTS = (*SITES, "stonebridge", "saltmarsh")
TYPES = {
    "entities": ("problem", "treatment", "drug", "test"),
    "modifiers": ("severity", "negation", "dosage", "temporal"),
    "links": ("problem.severity", "problem.negation", "drug.dosage", "drug.temporal"),
}
METHODS = {"zero_shot": 0.1, "single_site:lakeside": 0.5, "fed_medlora": 0.62, "fed_medlora_plus": 0.66}
LABELS = ("Zero-shot", "Single site: lakeside", "Fed-MedLoRA", "Fed-MedLoRA+")


def six(tp, fp, fn):
    def ratio(part, whole):
        return part / whole if whole else None

    precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
    return {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "precision": precision,
        "recall": recall,
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
    }


def numbers(per_type):
    total = six(*(sum(one[key] for one in per_type.values()) for key in ("tp", "fp", "fn")))
    scores = [one["f1"] for one in per_type.values() if one["f1"] is not None]
    f1 = total["f1"]
    interval = None if f1 is None else [max(0.0, f1 - 0.04), min(1.0, f1 + 0.04)]
    macro = sum(scores) / len(scores) if scores else None
    return {**total, "macro_f1": macro, "interval": interval, "per_type": per_type}


def score(rng, types, level):
    strict, lenient = {}, {}
    for name in types:
        gold = rng.randint(20, 120)
        tp = min(gold, round(gold * max(0.02, level + rng.uniform(-0.08, 0.08))))
        more = rng.randint(0, gold - tp)
        fp = rng.randint(0, gold // 2) + more
        strict[name] = six(tp, fp, gold - tp)
        lenient[name] = six(tp + more, fp - more, gold - tp - more)
    return {"strict": numbers(strict), "lenient": numbers(lenient)}


def evaluation(rng, cohort, decoding, level):
    kinds = {
        "entities": ("entities", 0.0),
        "modifiers_gold": ("modifiers", 0.05),
        "links_gold": ("links", 0.0),
        "modifiers_end_to_end": ("modifiers", -0.15),
        "links_end_to_end": ("links", -0.2),
    }
    return {
        "cohort": cohort,
        "decoding": decoding,
        "num_examples": 300,
        "num_unparsed": 41 if decoding == "free" else 0,
        "num_ungrounded": None if decoding == "free" else 7,
        "seconds": 30 + rng.random() * 20,
        "scores": {key: score(rng, TYPES[types], level + shift) for key, (types, shift) in kinds.items()},
        "answers": None,
    }


def one_round(rng, round_num, sites, is_adaptive, level):
    raw = {site: 1 + place + (rng.random() if is_adaptive else 0) for place, site in enumerate(sites)}
    total = sum(raw.values())
    return {
        "round_num": round_num,
        "weights": {site: value / total for site, value in raw.items()},
        "sites": [
            {
                "site": site,
                "num_examples": 320,
                "num_target_tokens": 9000 + 3000 * place,
                "train_loss": 1.9 / (round_num + 0.6) + 0.15 * place + rng.random() * 0.05,
                "validation_loss": 1.5 / (round_num + 0.5) + 0.1 * place if is_adaptive else None,
                "seconds": 41.0 + 5 * place,
                "upload_bytes": 19_550_000,
                "download_bytes": 19_550_000,
                "peak_memory_bytes": 1_900_000_000 + 60_000_000 * place,
            }
            for place, site in enumerate(sites)
        ],
        "figures": {"refactoring_error": 0.05},
        "aggregate_seconds": 0.12,
        "validate_seconds": 3.5,
        "validation": {
            "loss": 1.3 / (round_num + 0.4),
            "ner_strict_f1": level * (1 - 0.6**round_num),
            "ner_lenient_f1": min(1.0, (level + 0.12) * (1 - 0.55**round_num)),
        },
    }


def make_results():
    rng = random.Random(5)
    methods = []
    for place, (name, level) in enumerate(METHODS.items()):
        sites = () if name == "zero_shot" else SITES[:1] if ":" in name else SITES
        decodings = ("constrained", "free") if name == "zero_shot" else ("constrained",)
        rounds = (
            [one_round(rng, n, sites, name.endswith("plus"), level) for n in range(1, 6)] if sites else []
        )
        methods.append(
            {
                "name": name,
                "label": LABELS[place],
                "adapter": f"adapters/{name.replace(':', '-')}" if sites else None,
                "seconds": sum(site["seconds"] for one in rounds for site in one["sites"]),
                "rounds": rounds,
                "evaluations": [
                    evaluation(rng, cohort, decoding, level - 0.05 * (cohort not in SITES))
                    for decoding in decodings
                    for cohort in COHORTS
                ],
            }
        )
    cohorts = [
        {
            "name": name,
            "kind": "site" if name in SITES else "external" if name == "stonebridge" else "new-site",
            "synthetic": True,
            "num_train_notes": 120 if name in SITES else 0,
            "num_train_examples": 1934 if name in SITES else 0,
            "num_test_notes": 40,
            "num_test_sentences": 310,
            "annotates": {"entities": list(TYPES["entities"]), "pairs": list(TYPES["links"])},
            "not_expressible": {"crossing": 3, "discontinuous": 11} if name == "northgate" else {},
            "test_not_expressible": {"crossing": 1} if name == "stonebridge" else {},
            "too_long": 2 if name == "riverbend" else 0,
        }
        for name in COHORTS
    ]
    return {
        "format": "fedmedlora-results",
        "version": 1,
        "name": "Five synthetic hospitals",
        "created_utc": "2026-03-01T12:34:56Z",
        "command": ["fedmedlora", "run", "study.toml", "--out", "my results"],
        "study": {
            "name": "Five synthetic hospitals",
            "seed": 7,
            "methods": ["zero_shot", "single_site", "fed_medlora", "fed_medlora_plus"],
            "adapter": {"rank": 16, "alpha": 32.0, "dropout": 0.0, "targets": "all-linear"},
            "training": {"rounds": 5, "learning_rate": 1e-3, "loss": "lm+decision"},
            "sites": [
                {"name": site, "train": f"{site}-train.jsonl", "test": f"{site}-test.jsonl"} for site in SITES
            ],
        },
        "environment": {
            "fedmedlora": "0.1.0",
            "python": "3.11.9",
            "torch": "2.13.0",
            "transformers": "5.2.0",
            "peft": "0.18.1",
            "platform": "Linux x86_64",
            "num_cores": 2,
            "device": "cpu",
            "seed": 7,
        },
        "model": {
            "name": "smollm2-135m",
            "hash": "9f2c" * 16,
            "num_parameters": 134_515_008,
            "adapter_parameters": 4_884_480,
        },
        "cohorts": cohorts,
        "validation": {
            "num_notes": 30,
            "num_loss_examples": 120,
            "num_f1_notes": 4,
            "num_f1_sentences": 41,
            "not_expressible": {"nested too deep": 5},
            "too_long": 7,
        },
        "methods": methods,
    }
