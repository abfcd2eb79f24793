"""Generation under a form's grammar: every answer is one of the form, and every target can be said."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fedmedlora.corpora.note import Entity
from fedmedlora.extraction import grammar
from fedmedlora.extraction.generate import generate_texts
from fedmedlora.model.lora import attach_lora, read_adapter, write_adapter
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import known_forms, load_form
from fedmedlora.tasks.pieces import pieces
from fedmedlora.training.site import LocalTraining, train_round

LABELS = ("problem", "drug", "Song-bird")
FORMS = [name for name in known_forms() if load_form(name).grammar(LABELS) is not None]
JSON = load_form("json")


def an_example(text: str, marked=(), *, labels=LABELS, form: str = "json") -> Example:
    """``marked``: (label, surface, which occurrence from 0)."""
    cut = pieces(text, 0, len(text))
    entities = []
    for number, (label, surface, nth) in enumerate(marked):
        start = -1
        for _ in range(nth + 1):
            start = text.index(surface, start + 1)
        entities.append(Entity(f"T{number}", label, ((start, start + len(surface)),)))
    how = load_form(form)
    target, unplaced = how.render(cut, entities, labels)
    assert unplaced == ()
    return Example(f"n/{text[:9]}", "n", "ner", "List it.", how.written(cut), cut, labels, target, form=form)


def accepts(encoder, text: str, labels=LABELS) -> bool:
    """Whether ``text`` is a whole sentence of the grammar, token by token."""
    matcher = grammar._matcher(grammar._tokenizer(encoder), an_example("x", labels=labels))
    ids = encoder.tokenizer(text, add_special_tokens=False).input_ids
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def test_there_is_a_form_with_a_grammar():
    assert FORMS == ["json"]


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    spans=st.lists(st.tuples(st.integers(0, 19), st.integers(1, 20), st.sampled_from(LABELS)), max_size=4),
)
def test_every_target_is_a_sentence_of_it(encoder, text, spans):
    cut = pieces(text, 0, len(text))
    entities = [Entity(f"T{i}", label, ((s, e),)) for i, (s, e, label) in enumerate(spans)]
    target, _ = JSON.render(cut, entities, LABELS)
    assert accepts(encoder, "".join(target))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", "[ ]", "{}", "[]]", "no", '[{"type":"bird","text":"a"}]', '[{"type":"drug","text":""}]'),
        *('[{"type":"drug"}]', '[{"type":"drug","text":"a","nth":1}]', '[{"type":"drug","text":"a","x":1}]'),
        '[{"type":"drug","text":"a"},]',
    ],
)
def test_other_texts_are_not(encoder, text):
    assert not accepts(encoder, text)


def test_labels_asked_for_are_the_only_ones(encoder):
    said = '[{"type":"drug","text":"a"}]'
    assert accepts(encoder, said, ("drug",))
    assert not accepts(encoder, said, ("problem",))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_random_model_writes_nothing_else(build, encoder, kind, batch_size):
    """Rows of one batch have other labels and end at other times."""
    model = build(kind, 1)
    cases = [an_example(f"no fever {i}", labels=LABELS[: 1 + i % 3]) for i in range(5)]
    texts = generate_texts(
        model, encoder, cases, batch_size=batch_size, max_new_tokens=[60] * 5, under_grammar=True
    )
    again = generate_texts(model, encoder, cases, batch_size=2, max_new_tokens=[60] * 5, under_grammar=True)
    assert texts == again, "a row does not depend on its neighbours"
    assert any(texts)
    for case, text in zip(cases, texts, strict=True):
        matcher = grammar._matcher(grammar._tokenizer(encoder), case)
        assert matcher.try_consume_tokens(list(_tokens(encoder, text))) >= 0
        reading = JSON.read(case, text)
        if text.endswith("]") and _is_json(text):
            assert reading.complete
            assert {r["type"] for r in json.loads(text)} <= set(case.labels)
        else:
            assert not reading.complete, "the limit cut it off"
            assert text.startswith("[")
    free = generate_texts(model, encoder, cases, batch_size=2, max_new_tokens=[60] * 5)
    assert not any(map(_is_json, free)), "so the grammar did it"


def _tokens(encoder, text):
    return encoder.tokenizer(text, add_special_tokens=False).input_ids


def _is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Pushing:
    """A made-up model: pushes row ``i`` towards ``texts[i]``, then towards a token that no grammar allows."""

    def __init__(self, encoder, texts):
        self.ids = [[*_tokens(encoder, text), encoder.end_id] for text in texts]
        self.vocabulary = len(encoder.tokenizer)

    def scores(self, step):
        found = torch.zeros(len(self.ids), self.vocabulary)
        for row, ids in enumerate(self.ids):
            found[row, ids[step] if step < len(ids) else 5] = 10.0
        return found


def test_the_mask_leaves_what_the_grammar_allows(encoder):
    """Step by step over hand-made scores: the first row says what it may, the second tries to escape."""
    cases = [an_example("no fever"), an_example("no fever")]
    good, bad = '[{"type":"problem","text":"fever"}]', "I am sorry, I cannot"
    push, rows = Pushing(encoder, [good, bad]), grammar.rows_for(encoder, cases)
    prompt = torch.zeros((2, 3), dtype=torch.long)
    ids = prompt
    for step in range(len(push.ids[0])):
        scores = push.scores(step)
        masked = rows(ids, scores)
        assert masked.isfinite().any(dim=1).all(), "something can always come next"
        assert torch.equal(masked[masked.isfinite()], scores[masked.isfinite()]), "scores stay as they are"
        ids = torch.cat([ids, masked.argmax(dim=1, keepdim=True)], dim=1)
    written = [encoder.decode(row[3:].tolist()) for row in ids]
    assert written[0] == good
    assert written[1].startswith("[")
    end = rows(ids, push.scores(99))
    assert end[0].isfinite().nonzero().flatten().tolist() == [encoder.end_id], "a finished row stays finished"


def test_without_the_library_it_says_what_to_install(encoder, monkeypatch):
    monkeypatch.setattr(grammar.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "fedmedlora\[json\]", or read freely'):
        grammar.rows_for(encoder, [an_example("x")])


def sentencepiece(prepend: str, byte_fallback: bool = True):
    """A tokenizer as SentencePiece's: a word's leading space is part of it; unknown characters are bytes."""
    of_bytes = [f"<0x{i:02X}>" for i in range(256)] if byte_fallback else []
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=prepend, split=True)
    steps = [decoders.Replace("▁", " "), decoders.Fuse()]
    steps[1:1] = [decoders.ByteFallback()] if byte_fallback else []
    steps += [decoders.Strip(" ", 1, 0)] if prepend != "never" else []
    tokenizer.decoder = decoders.Sequence(steps)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>", *of_bytes],
        initial_alphabet=[*map(chr, range(33, 127)), "µ", "é"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Pt denies chest pain and fever . aspirin \n 81 mg"] * 3, trainer)
    record = json.loads(tokenizer.to_str())  # bytes are tokens like others, and no special ones
    record["added_tokens"] = [t for t in record["added_tokens"] if t["content"] not in of_bytes]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(record)), eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("prepend", ["always", "first", "never"])
def test_tokenizers_that_mark_word_starts(prepend):
    encoder = Encoder(sentencepiece(prepend))
    tokenizer = grammar._tokenizer(encoder)
    for case in SENTENCES:
        target = encoder.encode(case).target
        assert encoder.decode(target) == "".join(case.target)
        matcher = grammar._matcher(tokenizer, case)
        assert matcher.try_consume_tokens(list(target[:-1])) == len(target) - 1
        assert matcher.is_accepting()


def test_a_tokenizer_that_the_library_cannot_read_is_refused_at_once():
    class Other:
        tokenizer, end_id = sentencepiece("never", byte_fallback=False), 2

    with pytest.raises(ValueError, match=r"cannot be used for constrained decoding of JSON .* read freely"):
        grammar.refuse_unreadable(Other())


def test_a_form_without_a_grammar_is_refused(encoder):
    with pytest.raises(ValueError, match="form 'markup' has no grammar"):
        grammar.rows_for(encoder, [an_example("x", form="markup")])


def test_the_library_is_imported_only_where_it_is_used():
    import subprocess

    code = "import sys; import fedmedlora.measure; sys.exit('llguidance' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SENTENCES = (
    an_example(
        "Pt denies chest pain and severe nausea.", [("problem", "chest pain", 0), ("problem", "nausea", 0)]
    ),
    an_example("no fever", []),
    an_example("aspirin 81 mg, no aspirin today", [("drug", "aspirin", 1)]),
    an_example("He was started on aspirin 81 mg daily.", [("drug", "aspirin", 0)]),
)


@pytest.mark.parametrize("under_grammar", [True, False])
def test_an_adapter_learns_to_write_it(load, under_grammar):
    """A few invented sentences by heart: what it writes is the target, letter for letter, free or not."""
    base = load("llama")
    model = attach_lora(base.model, rank=16, alpha=32.0, seed=3)
    examples = tuple(base.encoder.encode(e) for e in SENTENCES)
    assert all(not any(e.choices) for e in examples)
    how = LocalTraining(
        num_rounds=1, examples_per_step=4, steps=120, learning_rate=2e-2, loss="lm", warmup_steps=5
    )
    result = train_round(base, model, read_adapter(model), examples, how, site="a", round_num=1, seed=0)
    write_adapter(model, result.adapter)
    texts = generate_texts(
        model.eval(), base.encoder, SENTENCES, share_prefix=True, under_grammar=under_grammar
    )
    assert texts == ["".join(e.target) for e in SENTENCES]
    for case, text in zip(SENTENCES, texts, strict=True):
        assert JSON.read(case, text).mentions == JSON.read(case, "".join(case.target)).mentions
