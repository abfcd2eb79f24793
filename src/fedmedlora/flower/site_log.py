"""What a site's own audit log is told: every question, every refusal, everything that leaves.

The log lies in the site's state folder and never leaves it; its head goes along with every answer. An answer
that the log could not take does not leave.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from flwr.app import Message, RecordDict

from fedmedlora import __version__
from fedmedlora.audit.canonical import canonical
from fedmedlora.audit.entries import (
    MOST_ARRAYS,
    Arrays,
    Asked,
    Entry,
    Fault,
    Left,
    Refusal,
    Settings,
    Versions,
    error_name,
)
from fedmedlora.audit.in_force import flat, versions
from fedmedlora.audit.log_file import LOG, AuditLog
from fedmedlora.audit.sorts import plain_words
from fedmedlora.exchange.wire import read_header
from fedmedlora.flower import passing
from fedmedlora.flower.allows import Refused
from fedmedlora.flower.messages import DESCRIBE, FAILED, Letter
from fedmedlora.flower.site_file import SiteFile

_log = logging.getLogger("fedmedlora")


@dataclass(frozen=True, slots=True)
class SiteLog:
    """The log of the site of ``file``, about one question and its answer."""

    file: SiteFile
    question: str
    fields: dict[str, Any]

    @staticmethod
    def asked(file: SiteFile, message: Message) -> SiteLog:
        """Tell the log that ``message`` came, before anything is done about it."""
        question = passing.question_of(message.metadata.message_type)
        fields = passing.fields_of(message.content)
        entry = Asked(
            question,
            file.name,
            "",
            passing.run_of(fields),
            passing.method_of(fields),
            passing.round_of(fields),
            passing.terms_hash(fields),
            *passing.size_and_hash(message.content),
            passing.head_in(message.content),
        )
        found = SiteLog(file, question, fields)
        found._log().append(entry, *(_in_force(file) if question == DESCRIBE else ()))
        return found

    def leaving(self, answer: Letter, error: Exception | None) -> RecordDict:
        """``answer`` as it leaves, with the log's head, once the log has been told of it.

        ``error``: why it is no answer to what was asked. Where the log cannot be written, what leaves says
        only that, and as a failure of the site's program, which is asked again: a full disk is no refusal.
        """
        records = answer.to_records()
        entries: list[Entry] = []
        if isinstance(error, Refused):
            entries.append(Refusal(self.question, self.file.name, "", plain_words(str(error))))
        elif error is not None:
            entries.append(Fault("failed", self.question, self.file.name, "", error_name(error)))
        try:
            head = self._log().append(*entries, self._left(records, answer))
        except (OSError, ValueError) as failure:
            _log.error("the audit log cannot be written, so nothing leaves: %s", failure)
            told = "its audit log cannot be written; its own log says why"
            return Letter({"refused": "", FAILED: told}).to_records()
        passing.put_head(records, head, __version__)
        return records

    def _left(self, records: RecordDict, answer: Letter) -> Left:
        arrays = [group for data in answer.parts.values() for group in arrays_in(data)]
        return Left(
            self.question,
            passing.run_of(self.fields),
            passing.method_of(self.fields),
            passing.round_of(self.fields),
            tuple(sorted(answer.fields)),
            tuple(arrays[:MOST_ARRAYS]),
            *passing.size_and_hash(records),
        )

    def _log(self) -> AuditLog:
        return AuditLog(self.file.path(self.file.state) / LOG)


def tell_refused(file: SiteFile, message_type: str, words: str) -> None:
    """Tell the log of the site of ``file`` that a message was refused before a ClientApp was started.

    ``words``: why. Raises as ``AuditLog.append``.
    """
    entry = Refusal(passing.question_of(message_type), file.name, "", plain_words(words))
    AuditLog(file.path(file.state) / LOG).append(entry)


def arrays_in(data: bytes) -> Iterator[Arrays]:
    """The arrays of a safetensors message by its header, those of a name but for numbers in it as one."""
    groups: Counter[tuple[str, str, tuple[int, ...]]] = Counter()
    for name, one in read_header(data, "answer").items():
        if name != "__metadata__":
            groups[_pattern(name), one["dtype"], tuple(one["shape"])] += 1
    if len(groups) > MOST_ARRAYS:  # of no model that is known; the message's hash stands for all of them
        groups = Counter({("*", "MANY", ()): groups.total()})
    for (name, dtype, shape), num_arrays in sorted(groups.items()):
        yield Arrays(name, dtype, shape, num_arrays)


def _pattern(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.*|:/-]", "?", re.sub(r"[0-9]+", "*", name))[:200]


def _in_force(file: SiteFile) -> tuple[Entry, ...]:
    """Which programs answer, and what the site allows."""
    allows = asdict(file.allows)
    own = hashlib.sha256(canonical(allows)).hexdigest()
    return Versions(versions()), Settings("site", own, flat(allows))
