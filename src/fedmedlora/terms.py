"""What a study asks of every one of its sites: settings and hashes, never a path, a module or a command.

The same terms hold whether a site is prepared in this process or at another machine, which reads them
out of a message and refuses what it does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.schema_record import schema_of_record
from fedmedlora.settings import SEEDS, Range, read_table, setting
from fedmedlora.study_forms import loss_of
from fedmedlora.study_tables import Evaluation, Lora, Tasks, Training

_SCHEMA_KEYS = {"name", "entities", "modifiers", "pairs", "definitions"}
MAX_CHARACTERS = 1_000_000  # of terms as text; real ones have a few thousand


@dataclass(frozen=True, slots=True)
class Terms:
    """The part of a study that a site needs to do its work, and the base model that it must hold."""

    seed: int = setting("seed of the training, and of the notes that are drawn for it", within=SEEDS)
    base_model: str = setting("hash of the base model's weights")
    tokenizer: str = setting("hash of its tokenizer")
    frame: tuple[str, ...] = setting("the chat template's text before and after a prompt")
    prompts: str = setting("hash of the words that its prompts are made of: see ``tasks/prompts.py``")
    sample_seed: int = setting(
        "seed of what is drawn for tests and validation; -1: seed", -1, within=Range(low=-1, high=2**31 - 1)
    )
    held_out_sentences: int = setting(
        "sentences of its training notes that each site keeps to score the others' adapters on; 0: none",
        0,
        within=Range(low=0),
    )
    schema_record: dict[str, Any] = field(default_factory=dict)  # see ``corpora/schema_record.py``
    adapter: Lora = field(default_factory=Lora)
    tasks: Tasks = field(default_factory=Tasks)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def draw_seed(self) -> int:
        """The seed of what is drawn for tests and validation, the same for all seeds of a study."""
        return self.seed if self.sample_seed < 0 else self.sample_seed

    def schema(self) -> Schema:
        """What is asked for: entity types, modifiers, pairs, definitions. Raises ``ValueError``."""
        record = self.schema_record
        unknown = sorted(record.keys() - _SCHEMA_KEYS)
        if unknown:
            raise ValueError(f"terms: schema: {unknown[0][:80]}: unknown key")
        lists = [record.get(key) for key in ("entities", "modifiers", "pairs")]
        if not isinstance(record.get("name"), str) or not all(map(_is_texts, lists)):
            raise ValueError("terms: schema: name, entities, modifiers and pairs must be texts")
        return schema_of_record(record, "terms: schema")

    def loss(self) -> str:
        """``training.loss`` as far as the form of answers has it."""
        return loss_of(self.tasks, self.training.loss)

    def to_json(self) -> str:
        """One line of JSON, the same for the same terms."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Terms:
        """What ``to_json`` wrote. Raises ``ValueError`` for anything else, naming the key."""
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"terms: {len(text)} characters; at most {MAX_CHARACTERS} are read")
        try:
            table: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("terms: not JSON") from None
        if not isinstance(table, dict):
            raise ValueError("terms: not a table of settings")
        return read_table(Terms, table, "terms:")


def frame_hash(frame: Sequence[str]) -> str:
    """sha256 of the text before and after a prompt."""
    return hashlib.sha256(json.dumps(list(frame)).encode()).hexdigest()


def _is_texts(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(one, str) for one in found)
