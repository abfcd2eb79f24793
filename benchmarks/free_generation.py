"""How often plain ``generate`` reads an adapter: it must stop, and give the sentence back, tags well formed.

``python benchmarks/free_generation.py --adapter demo-run/run/adapters/fed_medlora`` reads synthetic test
sentences of all five hospitals with transformers' ``generate``, without any constraint.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapter", type=Path, required=True, help="a folder under a run's adapters/")
    parser.add_argument("--sentences", type=int, default=100, help="half of them for modifiers")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    args = parser.parse_args()
    found = measure(args.adapter, args.sentences)
    if args.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:<32}{value}")


def measure(folder: Path, num_sentences: int) -> dict[str, float | int]:
    from fedmedlora.corpora.schema import CLINICAL
    from fedmedlora.corpora.synthetic import HOSPITALS, synthesize
    from fedmedlora.extract import load_into
    from fedmedlora.extraction.generate import default_limit, generate_texts
    from fedmedlora.model.load import load_base_model
    from fedmedlora.model.memory import keep_freed_memory
    from fedmedlora.model.saved import read_manifest
    from fedmedlora.tasks.markup import parse
    from fedmedlora.tasks.training_set import sample_examples, training_set

    keep_freed_memory()
    manifest = read_manifest(folder)
    base = load_base_model(manifest["base_model"]["name"])
    model = load_into(base, manifest, folder)
    notes = [note for name in HOSPITALS for note in synthesize(name, 6, 3, "test")]
    rendered = training_set(notes, CLINICAL, prompt_set=manifest["tasks"]["prompt_set"])
    examples = sample_examples(
        rendered.examples, num=num_sentences, modifier_share=0.5, seed=0, name="free generation"
    )
    texts = generate_texts(model, base.encoder, examples, share_prefix=True)
    limits = [default_limit(base.encoder, e) for e in examples]
    stopped = [len(base.encoder.tokenizer(t).input_ids) < n for t, n in zip(texts, limits, strict=True)]
    # Parsed: known tags, balanced, around the words of the sentence and all of them. A tag that was not asked
    # for is a wrong answer, not an unreadable one. Exact: the very characters, and only what was asked for.
    tags = (*CLINICAL.entities, *CLINICAL.modifiers)
    parsed = [not parse(e.pieces, t, tags).problems for e, t in zip(examples, texts, strict=True)]
    exact = [parse(e.pieces, t, e.labels).complete for e, t in zip(examples, texts, strict=True)]
    found_by_task = {}
    for task in ("ner", "modifiers"):
        for what, fine in (("parsed", parsed), ("exact", exact)):
            of_task = [ok and s for ok, s, e in zip(fine, stopped, examples, strict=True) if e.task == task]
            found_by_task[f"stopped_and_{what}_{task}"] = sum(of_task) / len(of_task)
    return {
        "num_sentences": len(examples),
        "stopped": sum(stopped) / len(stopped),
        "stopped_and_parsed": sum(s and ok for s, ok in zip(stopped, parsed, strict=True)) / len(texts),
        **found_by_task,
        "stopped_and_exact": sum(s and ok for s, ok in zip(stopped, exact, strict=True)) / len(texts),
    }


if __name__ == "__main__":
    main()
