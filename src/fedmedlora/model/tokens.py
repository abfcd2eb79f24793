"""Text to token ids: prompt prefix, prompt, target, and what the copy constraint leaves open.

Every piece and every tag is tokenized by itself. So the tokens of a copied word are the same in input and
output, the same with and without tags, and a function of the text alone. Answers that are generated are
tokenized whole.

Of a form that is read by tagging there is no answer behind the input: the target's tokens are the sentence's
own, and what is open is the word of each piece, behind its last token. A word is one token, so that one pass
decides it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedmedlora.tasks.copying import START, State, advance, options
from fedmedlora.tasks.example import PLAIN, Example
from fedmedlora.tasks.form import load_form, read_by
from fedmedlora.tasks.tagging import options as tag_words

# Stands for the input while the chat template is rendered; no template and no prompt contains it.
_SLOT = "\ue000\ue001"
_DATE = "26 Jul 2024"
_SAME_DATE = "{%- macro strftime_now(form) %}" + _DATE + "{%- endmacro %}"
# What a tokenizer has to copy faithfully for our output form to work.
_SAMPLE = ("Pt", " denies", " 5", "mg", "/", "d", ",", " fever", ".", "\n", " µ", "é", " <", "&lt;")


@dataclass(frozen=True, slots=True)
class TokenExample:
    """One example as token ids.

    ``prefix``: the shared instruction. ``prompt``: the example's own input up to the answer. ``target``: the
    answer with the end token. ``choices[i]``: the token ids between which the answer's form leaves the i-th
    target token open, gold first; empty where nothing is. ``is_tagged``: read by tagging. Then the gold is no
    token of the target but is decided there, and the target's tokens see each other in both directions.
    """

    example: Example
    prefix: tuple[int, ...]
    prompt: tuple[int, ...]
    target: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    is_tagged: bool = False

    def seen(self) -> bytes:
        """What a loss depends on, for hashing: equal for examples that train alike."""
        found = repr((self.prefix, self.prompt, self.target, self.choices)).encode()
        return found + b" tagged" if self.is_tagged else found

    def __len__(self) -> int:
        """Tokens behind the prefix."""
        return len(self.prompt) + len(self.target)


class Encoder:
    """Token ids of prefixes, prompts, pieces and tags under one tokenizer; remembers what it encoded.

    Raises ``ValueError`` for a tokenizer without an end token, and for one that cannot write text piece
    by piece.
    """

    def __init__(self, tokenizer: Any) -> None:
        """``tokenizer``: a transformers tokenizer."""
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end-of-text token, so an answer could not end")
        self.tokenizer = tokenizer
        self.end_id: int = tokenizer.eos_token_id
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_id
        self._cache: dict[str, tuple[int, ...]] = {}
        self._prefixes: dict[str, tuple[int, ...]] = {}
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        self._marks = {*tokenizer.all_special_tokens, *(str(token) for token in added)}
        self._anchor = ""
        for anchor in ("", ")", "."):
            self._anchor, self._cache = anchor, {}
            ids = [i for piece in _SAMPLE for i in self.piece(piece)]
            if self.decode(ids) == "".join(_SAMPLE):
                break
        else:
            raise ValueError(
                f"the tokenizer {type(tokenizer).__name__} does not give a text back when its words are "
                "tokenized one by one, which inline markup relies on"
            )
        self._before, self._after = self._frame()
        self._suffix = self._plain(self._after)

    @property
    def frame(self) -> tuple[str, str]:
        """What stands around an input: before it, with ``{instruction}`` in its place, and after it."""
        return self._before.replace(_SLOT, "{instruction}"), self._after

    def tokenizer_hash(self) -> str:
        """sha256 over the vocabulary and the ids of a sample: equal for tokenizers that mean the same."""
        sample = [self.piece(piece) for piece in _SAMPLE]
        known = sorted(self.tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps([known, sample]).encode()).hexdigest()

    def piece(self, text: str) -> tuple[int, ...]:
        """Token ids of one piece or tag, in the middle of a text."""
        found = self._cache.get(text)
        if found is None:
            found = self._cache[text] = self._behind_anchor(text)
        return found

    def decode(self, ids: Any) -> str:
        """Text of token ids, special tokens left out, nothing tidied."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def prefix(self, instruction: str) -> tuple[int, ...]:
        """Token ids of everything before an example's own input."""
        found = self._prefixes.get(instruction)
        if found is None:
            # Without an instruction the message begins with the input itself.
            slot = _SLOT if instruction else _SLOT + "\n"
            if any(mark in instruction for mark in self._marks):  # out of a file, it could spell one
                head, _, tail = self._before.partition(slot)
                own = self._plain(instruction, split_special_tokens=True)
                found = (*self._plain(head), *own, *self._plain(tail))
            else:
                found = self._plain(self._before.replace(slot, instruction))
            if not self.tokenizer.chat_template and self.tokenizer.bos_token_id is not None:
                found = (self.tokenizer.bos_token_id, *found)
            # Something has to stand before the first token; a text begins where another one ended.
            found = found or (self.end_id,)
            self._prefixes[instruction] = found
        return found

    def prompt(self, example: Example) -> tuple[int, ...]:
        """Token ids of the example's own input and of what announces the answer."""
        if example.form == PLAIN:  # whole, it could spell a special token
            ids = [i for text in example.input for i in self._behind_anchor(text, split_special_tokens=True)]
            return (*ids, *self._suffix)
        return tuple(i for text in example.input for i in self.piece(text)) + self._suffix

    def encode(self, example: Example) -> TokenExample:
        """The example as token ids; with the open choices of its target where its form leaves any."""
        how = read_by(example.form)
        if how == "copying":
            target, choices = self._copied(example)
        elif how == "tagging":
            target, choices = self._tagged(example)
        else:  # text as a model writes it, and no two are alike: nothing to remember
            # Cut into pieces, a note cannot spell a special token; whole, it could.
            target = [
                i for text in example.target for i in self._behind_anchor(text, split_special_tokens=True)
            ]
            choices = [()] * (len(target) + 1)
        return TokenExample(
            example=example,
            prefix=self.prefix(example.instruction),
            prompt=() if how == "tagging" else self.prompt(example),
            target=(*target, self.end_id),
            choices=tuple(choices),
            is_tagged=how == "tagging",
        )

    def sentence(self, example: Example) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
        """The sentence's tokens, and for each of its solid pieces how many there are up to its end.

        None: a piece of no tokens (a tokenizer may drop a character that it does not know), which cannot be
        decided.
        """
        ids: list[int] = []
        ends: list[int | None] = []
        for piece in example.pieces:
            own = self.piece(piece.form)
            ids.extend(own)
            if piece.is_solid:
                ends.append(len(ids) if own else None)
        return tuple(ids), tuple(ends)

    def tag_tokens(self, labels: Sequence[str]) -> dict[str, int]:
        """The token of each word of ``tagging.options(labels)``, no two the same.

        The first of a word's own that no earlier word has; for a word that has none left, the first letter
        that is free. So a label has the same token whatever else is asked for, unless words begin alike.
        """
        found: dict[str, int] = {}
        for word in tag_words(labels):
            own = self.piece(f" {word}")
            letters = (self.piece(f" {letter}")[0] for letter in string.ascii_letters)
            free = next((i for i in itertools.chain(own, letters) if i not in found.values()), None)
            if free is None:
                raise ValueError(
                    f"{len(labels)} labels are too many for form tags, which needs a token for each of them; "
                    "ask for fewer at a time, or use another form"
                )
            found[word] = free
        return found

    def options(self, state: State, example: Example) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """What may come next: (option, how the example's form writes it, tokens of that), see ``copying``."""
        texts = load_form(example.form).tag_texts(example.labels)
        found = options(state, example.pieces, example.labels)
        return tuple([(o, text := texts.get(o, o), self.piece(text)) for o in found])

    def _copied(self, example: Example) -> tuple[list[int], list[tuple[int, ...]]]:
        target: list[int] = []
        choices: list[tuple[int, ...]] = []
        state = START
        for written in example.target:
            target.extend(self.piece(written))
            choices.extend(self.open_choices(state, example, written))
            allowed = self.options(state, example)
            state = advance(state, next(option for option, text, _ in allowed if text == written))
        return target, [*choices, ()]

    def _tagged(self, example: Example) -> tuple[list[int], list[tuple[int, ...]]]:
        ids, ends = self.sentence(example)
        choices: list[tuple[int, ...]] = [()] * (len(ids) + 1)
        tokens = self.tag_tokens(example.labels)
        for end, word in zip(ends, example.target, strict=True) if example.target else ():
            if end is not None:
                gold = tokens[word.strip()]
                choices[end] = (gold, *(token for token in tokens.values() if token != gold))
        return list(ids), choices

    def open_choices(self, state: State, example: Example, chosen: str) -> list[tuple[int, ...]]:
        """For each token of ``chosen``, an output piece as written: what it competes with, itself first.

        The options of one gap form a trie of token sequences; a token is open where the trie branches.
        """
        alive = [ids for _, _, ids in self.options(state, example)]
        ids = self.piece(chosen)
        found: list[tuple[int, ...]] = []
        for depth, token in enumerate(ids):
            rivals = dict.fromkeys(sequence[depth] for sequence in alive if len(sequence) > depth)
            assert token in rivals, "the target leaves the copy constraint"
            rivals.pop(token)
            found.append((token, *rivals) if rivals else ())
            alive = [s for s in alive if len(s) > depth and s[depth] == token]
        return found

    def _behind_anchor(self, text: str, **how: bool) -> tuple[int, ...]:
        anchor = self._plain(self._anchor) if self._anchor else ()
        joined = self._plain(self._anchor + text, **how)
        # Tokenizers that mark word starts put a mark before every text; behind an anchor they do not.
        return joined[len(anchor) :] if joined[: len(anchor)] == anchor else self._plain(text, **how)

    def _plain(self, text: str, **how: bool) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False, **how).input_ids) if text else ()

    def _frame(self) -> tuple[str, str]:
        """The prompt's text before (with a slot for the instruction) and after an example's input."""
        if not self.tokenizer.chat_template:
            return _SLOT + "\n", "\n\n"
        inner = _SLOT + "\n" + _SLOT[::-1]
        rendered: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": inner}],
            tokenize=False,
            add_generation_prompt=True,
            # Some templates write today's date, asked for in one of two ways: no two days would agree.
            date_string=_DATE,
            chat_template=_SAME_DATE + self.tokenizer.get_chat_template(),
        )
        before, _, after = rendered.partition(_SLOT[::-1])
        if _SLOT not in before:
            raise ValueError("the tokenizer's chat template does not show the user's message")
        return before, after


def masked_tokens(encoder: Encoder, example: TokenExample) -> list[tuple[str, bool]]:
    """The whole sequence as the model sees it: each token's text, and whether the loss counts it.

    Of a form that is read by tagging, the words stand where they are decided, as tags, and are what counts.
    """
    ids = [*example.prefix, *example.prompt, *example.target]
    first = len(ids) - len(example.target)
    if not example.is_tagged:
        return [(encoder.tokenizer.decode([i]), place >= first) for place, i in enumerate(ids)]
    words = {token: word for word, token in encoder.tag_tokens(example.example.labels).items()}
    found = [(encoder.tokenizer.decode([i]), False) for i in ids[:first]]
    for token, choices in zip(example.target, example.choices, strict=True):
        if choices:
            found.append((f"<{words[choices[0]]}>", True))
        found.append((encoder.tokenizer.decode([token]), False))
    return found[:-1]  # the end token stands behind all that is read
