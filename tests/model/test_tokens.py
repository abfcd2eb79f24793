"""Text to token ids, piece by piece."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fedmedlora.model.tokens import Encoder, masked_tokens
from fedmedlora.tasks.copying import START, advance, options
from fedmedlora.tasks.pieces import pieces

CONTENT = "fever <|end|> {test: aspirin}"


def test_a_form_that_does_not_copy_is_tokenized_whole_and_leaves_no_choice(encoder):
    from fedmedlora.corpora.note import Entity
    from fedmedlora.tasks.example import Example
    from fedmedlora.tasks.form import load_form

    how, cut = load_form("json"), pieces(CONTENT, 0, len(CONTENT))
    target, _ = how.render(cut, [Entity("T1", "problem", ((0, 13),))], ("problem",))
    example = Example("n", "n", "ner", "List.", how.written(cut), cut, ("problem",), target, form="json")
    found = encoder.encode(example)
    assert encoder.decode(found.target) == '[{"type":"problem","text":"fever <|end|>"}]'
    assert found.target.count(encoder.end_id) == 1, "a note cannot end its own answer"
    assert found.prompt.count(encoder.end_id) == 0
    assert found.choices == ((),) * len(found.target)


def test_tags_in_short_compete_with_each_other_and_with_the_text(encoder):
    from fedmedlora.tasks.example import Example

    cut = pieces("no fever", 0, 8)
    target = ("no", "<p", " fever", "</")
    example = Example("n", "n", "ner", "Mark.", (), cut, ("problem", "drug"), target, form="compact")
    found = encoder.encode(example)
    assert encoder.decode(found.target) == "no<p fever</"
    opening, closing = encoder.piece("<p"), encoder.piece("</")
    at = len(encoder.piece("no"))
    assert found.choices[at][0] == opening[0]
    assert set(found.choices[at]) >= {encoder.piece(" fever")[0]}
    assert found.choices[-1 - len(closing) : -1] == ((),) * len(closing), "at the end it must close"
    drug = encoder.piece("<d")
    apart = next(i for i, (one, other) in enumerate(zip(opening, drug, strict=True)) if one != other)
    assert set(found.choices[at + apart]) >= {opening[apart], drug[apart]}


def tagged(text: str, words: str, labels=("problem", "drug")):
    from fedmedlora.tasks.example import Example

    cut = pieces(text, 0, len(text))
    target = tuple(f" {word}" for word in words.split())
    return Example("n", "n", "ner", "Decide.", tuple(p.form for p in cut), cut, labels, target, form="tags")


def test_read_by_tagging_the_target_is_the_sentence_and_the_choices_stand_behind_its_pieces(encoder):
    found = encoder.encode(tagged("Pt denies\nfever", "- drug +"))
    token = encoder.tag_tokens(("problem", "drug"))
    assert found.target == (*encoder.piece("Pt"), *encoder.piece(" denies"), *encoder.piece("\n"),
                            *encoder.piece("fever"), encoder.end_id)  # fmt: skip
    ends = [len(encoder.piece("Pt"))]
    ends.append(ends[0] + len(encoder.piece(" denies")))
    ends.append(len(found.target) - 1)  # the last one stands where the end token is
    by_place = {i: choices for i, choices in enumerate(found.choices) if choices}
    assert by_place == {
        ends[0]: (token["-"], token["+"], token["problem"], token["drug"]),
        ends[1]: (token["drug"], token["-"], token["+"], token["problem"]),
        ends[2]: (token["+"], token["-"], token["problem"], token["drug"]),
    }
    blank = encoder.encode(tagged("Pt denies\nfever", ""))
    assert (blank.target, set(blank.choices)) == (found.target, {()})


def test_words_that_begin_alike_have_tokens_of_their_own(encoder):
    alone = encoder.tag_tokens(("problem",))
    labels = ("problem", "problems", "prob", "problem_2")
    found = encoder.tag_tokens(labels)
    assert list(found) == ["-", "+", *labels]
    assert len(set(found.values())) == 6
    assert found["problem"] == alone["problem"], "the first one asked for keeps its own"
    assert encoder.tag_tokens(labels) == found
    with pytest.raises(ValueError, match="1000 labels are too many for form tags"):
        encoder.tag_tokens(["x" * (i + 1) for i in range(1000)])


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = (
    "Pt denies chest pain and severe nausea . aspirin 81 mg <problem> </problem> fever 5 / d , µ é &lt; \n"
)


def metaspace(prepend: str) -> PreTrainedTokenizerFast:
    """As SentencePiece's: a word's leading space is part of it, and the text's first word gets one too."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=prepend, split=True)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if prepend != "never" else []),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=sorted(set("".join(TEXTS)) | {chr(code) for code in range(33, 127)}),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS * 2] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def encoders(encoder, tokenizer_of):
    chat = tokenizer_of([WORDS] * 4, 340)
    chat.chat_template = TEMPLATE
    return {
        "byte-level": encoder,
        "chat": Encoder(chat),
        "metaspace, first word marked": Encoder(metaspace("always")),
        "metaspace, unmarked": Encoder(metaspace("never")),
    }


KINDS = ("byte-level", "chat", "metaspace, first word marked", "metaspace, unmarked")
TEXTS = ("Pt denies chest pain.", "a <b> & c; 5mg/d", "µg é 痛み 🙂", "BP 120/80\n\t x", "fever")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_words_and_tags_come_back(encoders, kind, text):
    encoder = encoders[kind]
    forms = [p.form for p in pieces(text, 0, len(text))]
    assert encoder.decode([i for f in forms for i in encoder.piece(f)]) == "".join(forms)
    # In front of the last piece, a tag: the words' tokens stay what they were.
    tagged = [*forms[:-1], "<problem>", forms[-1], "</problem>"]
    ids = [encoder.piece(f) for f in tagged]
    assert encoder.decode([i for one in ids for i in one]) == "".join(tagged)
    assert [one for f, one in zip(tagged, ids, strict=True) if f[0] != "<"] == [
        encoder.piece(f) for f in forms
    ]


@given(st.text(max_size=30))
@settings(max_examples=60)
def test_any_text_comes_back(encoder, text):
    forms = [p.form for p in pieces(text, 0, len(text))]
    assert encoder.decode([i for f in forms for i in encoder.piece(f)]) == "".join(forms)


@pytest.mark.parametrize("kind", KINDS)
def test_prefix_prompt_and_target(encoders, kind, example):
    encoder = encoders[kind]
    made = example("Pt denies chest pain.", [("problem", "chest pain")])
    tokens = encoder.encode(made)
    assert tokens.prefix == encoder.prefix("Mark it.")
    assert tokens.prompt == encoder.prompt(made)
    assert tokens.target[-1] == encoder.end_id
    assert encoder.decode(tokens.target) == "Pt denies<problem> chest pain</problem>."
    assert len(tokens.choices) == len(tokens.target)
    assert len(tokens) == len(tokens.prompt) + len(tokens.target)
    raw = encoder.tokenizer.decode(tokens.prefix + tokens.prompt).replace("<s>", "", 1).lstrip(" ")
    if kind == "chat":
        assert raw == ("<|im_start|>user\nMark it.\nPt denies chest pain.<|im_end|>\n<|im_start|>assistant\n")
    else:
        assert raw.replace(" \n\n", "\n\n") == "Mark it.\nPt denies chest pain.\n\n"


def test_the_begin_token_stands_once(encoders, encoder):
    marked = encoders["metaspace, unmarked"]
    prefix = marked.prefix("Mark it.")
    assert prefix[0] == marked.tokenizer.bos_token_id
    assert prefix.count(prefix[0]) == 1
    assert encoder.tokenizer.bos_token_id is None  # and without one nothing is invented
    assert encoder.tokenizer.decode(encoder.prefix("Mark it.")) == "Mark it.\n"


def test_examples_of_one_instruction_share_a_prefix(encoder, example):
    one, two = (encoder.encode(example(text)) for text in ("fever", "no pain"))
    assert one.prefix is two.prefix
    assert encoder.encode(example("fever", instruction="Another.")).prefix != one.prefix


@pytest.mark.parametrize("kind", KINDS)
def test_choices_are_what_the_copy_constraint_leaves_open(encoders, kind, example):
    """Worked out anew, from the token sequences of all options at every gap."""
    encoder = encoders[kind]
    made = example("no severe chest pain.", [("problem", "chest pain")], labels=("problem", "drug"))
    tokens = encoder.encode(made)
    state, at = START, 0
    for piece in made.target:
        rivals = [encoder.piece(o) for o in options(state, made.pieces, made.labels)]
        ids = encoder.piece(piece)
        for depth, token in enumerate(ids):
            open_here = {r[depth] for r in rivals if r[:depth] == ids[:depth] and len(r) > depth}
            found = tokens.choices[at]
            if len(open_here) == 1:
                assert found == (), "forced"
            else:
                assert found[0] == token == tokens.target[at], "gold first"
                assert set(found) == open_here
                assert len(set(found)) == len(found)
            at += 1
        state = advance(state, piece)
    assert tokens.choices[at:] == ((),), "nothing is open at the end token"
    assert any(tokens.choices)


def test_choices_by_hand(encoder, example):
    made = encoder.encode(example("no fever", [("problem", "fever")], labels=("problem", "test")))
    copy_no, copy_fever = encoder.piece("no"), encoder.piece(" fever")
    problem, test, close = (encoder.piece(t) for t in ("<problem>", "<test>", "</problem>"))
    assert made.target == (*copy_no, *problem, *copy_fever, *close, encoder.end_id)
    by_place = dict(zip(range(len(made.target)), made.choices, strict=True))
    # At the start: "no", or a tag; both tags begin alike if the tokenizer cuts "<" off.
    assert by_place[0] == (copy_no[0], *dict.fromkeys((problem[0], test[0])))
    # Once " fever" is copied inside <problem> (depth 1), the tag closes at the text's end: forced.
    first_of_close = len(copy_no) + len(problem) + len(copy_fever)
    assert all(by_place[i] == () for i in range(first_of_close, len(made.target)))
    # Inside the tag's own tokens, open only where the two labels part.
    shared = next(i for i in range(len(problem)) if problem[i] != test[i])
    for depth in range(len(problem)):
        choice = by_place[len(copy_no) + depth]
        if depth == 0:
            assert choice[0] == problem[0]
        elif depth == shared:
            assert set(choice) == {problem[depth], test[depth]}
        else:
            assert choice == ()


def test_labels_that_begin_alike_part_late(encoder):
    """A trie: <test> and <testing> are one choice up to the token where they part."""
    from fedmedlora.tasks.example import Example

    cut = pieces("fever", 0, 5)
    made = Example(
        "n/0", "n", "ner", "i", ("fever",), cut, ("test", "testing"), ("<testing>", "fever", "</testing>")
    )
    tokens = encoder.encode(made)
    test, testing = encoder.piece("<test>"), encoder.piece("<testing>")
    shared = next((i for i, (a, b) in enumerate(zip(test, testing, strict=False)) if a != b), len(test))
    assert shared > 0
    assert set(tokens.choices[0]) == {testing[0], encoder.piece("fever")[0]}
    assert all(choice == () for choice in tokens.choices[1:shared])
    assert tokens.choices[shared] == (testing[shared], test[shared])


def test_a_target_outside_the_copy_constraint_is_our_own_bug(encoder, example):
    from dataclasses import replace

    with pytest.raises(AssertionError, match="leaves the copy constraint"):
        encoder.encode(replace(example("fever"), target=("pain",)))


def test_an_empty_input(encoder, example):
    tokens = encoder.encode(example(""))
    assert tokens.target == (encoder.end_id,)
    assert tokens.choices == ((),)


def test_without_an_end_token_an_answer_could_not_end(tokenizer_of):
    with pytest.raises(ValueError, match="no end-of-text token"):
        Encoder(tokenizer_of([WORDS], 340, eos_token=None))


def test_a_tokenizer_that_loses_text_is_refused():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "fever": 1, "</s>": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    lossy = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="[UNK]")
    with pytest.raises(ValueError, match="does not give a text back"):
        Encoder(lossy)


def test_a_template_that_hides_the_message_is_refused(tokenizer_of):
    tokenizer = tokenizer_of([WORDS], 340)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
    with pytest.raises(ValueError, match="does not show the user's message"):
        Encoder(tokenizer)


def test_masked_tokens_counts_the_target_alone(encoder, example):
    tokens = encoder.encode(example("no fever", [("problem", "fever")]))
    shown = masked_tokens(encoder, tokens)
    assert [counted for _, counted in shown].count(True) == len(tokens.target)
    assert "".join(text for text, counted in shown if not counted) == "Mark it.\nno fever\n\n"
    assert "".join(text for text, counted in shown if counted) == "no<problem> fever</problem><|end|>"


def test_masked_tokens_shows_the_words_that_are_decided(encoder):
    shown = masked_tokens(encoder, encoder.encode(tagged("no fever", "- drug")))
    assert "".join(text for text, _ in shown) == "Decide.\nno<-> fever<drug>"
    assert [text for text, counted in shown if counted] == ["<->", "<drug>"]


@pytest.mark.parametrize(
    "date", ["{{ date_string }}", "{{ strftime_now('%d %B %Y') }}", "{{ strftime_now('%d %b %Y') }}"]
)
def test_a_template_that_writes_the_date_writes_always_the_same(encoder, date):
    from copy import deepcopy

    tokenizer = deepcopy(encoder.tokenizer)
    tokenizer.chat_template = date + " " + TEMPLATE
    before, _ = Encoder(tokenizer).frame
    assert before.startswith("26 Ju")
    assert "2024" in before


def test_the_hash_of_a_tokenizer_sees_exchanged_ids(tokenizer_of):
    from copy import deepcopy

    tokenizer = tokenizer_of([WORDS] * 4, 340)
    other = deepcopy(tokenizer)
    vocabulary = other.get_vocab()
    one, two = sorted(vocabulary, key=vocabulary.get)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    other.get_vocab = lambda: vocabulary
    assert Encoder(other).tokenizer_hash() != Encoder(tokenizer).tokenizer_hash()


def test_what_a_loss_sees_says_whether_the_example_is_tagged(step_examples_of):
    """A tagged example is seen in both directions; keys of other examples are what they always were."""
    tagged, copied = step_examples_of("tags")[0], step_examples_of("markup")[0]
    assert tagged.seen() != replace(tagged, is_tagged=False).seen()
    assert copied.seen() == repr((copied.prefix, copied.prompt, copied.target, copied.choices)).encode()
