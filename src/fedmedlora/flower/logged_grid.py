"""Flower's grid, with what passes through it told to the coordinator's audit log.

A grid around a grid: whoever asks sites over it need not know of the log. Questions are on the disk before
they leave, and answers before anybody looks at them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedmedlora import __version__
from fedmedlora.audit.entries import Asked, Entry, Fault, Joined, Received, Refusal
from fedmedlora.audit.log_file import RunLog
from fedmedlora.audit.sorts import plain_words
from fedmedlora.exchange.update import check_site_name
from fedmedlora.flower import passing
from fedmedlora.flower.messages import DESCRIBE


@dataclass(frozen=True)
class LoggedGrid(Grid):
    """``grid``, of which ``log`` is told. ``names``: the study's sites; of others no joining is told."""

    grid: Grid
    log: RunLog
    names: Sequence[str]
    _sites: dict[int, str] = field(default_factory=dict)  # node -> the name it has said
    _asked: dict[str, Asked] = field(default_factory=dict)  # id of a question -> its entry

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """See ``Grid``."""
        messages = list(messages)
        entries = [self._question(message) for message in messages]
        if not entries:
            return []
        head = self.log.append(*entries)
        for message in messages:
            passing.put_head(message.content, head, __version__)
        ids = list(self.grid.push_messages(messages))
        self._asked.update(zip(ids, entries, strict=False))  # Flower gives no ids where it refused them all
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """See ``Grid``."""
        replies = list(self.grid.pull_messages(message_ids))
        entries = [entry for reply in replies for entry in self._answer(reply)]
        if entries:
            self.log.append(*entries)
        yield from replies

    def get_node_ids(self) -> Iterable[int]:
        """See ``Grid``."""
        return self.grid.get_node_ids()

    def get_nodes(self) -> Iterable[Any]:
        """See ``Grid``."""
        return self.grid.get_nodes()

    def set_run(self, run: Any) -> None:
        """See ``Grid``."""
        self.grid.set_run(run)

    @property
    def run(self) -> Any:
        """See ``Grid``."""
        return self.grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See ``Grid``."""
        return self.grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See ``Grid``: not used here, and so not a way around the log."""
        raise NotImplementedError("ask with push_messages and pull_messages")

    def _question(self, message: Message) -> Asked:
        node = message.metadata.dst_node_id
        fields = passing.fields_of(message.content)
        return Asked(
            passing.question_of(message.metadata.message_type),
            self._sites.get(node, ""),
            str(node),
            passing.run_of(fields),
            passing.method_of(fields),
            passing.round_of(fields),
            passing.terms_hash(fields),
            *passing.size_and_hash(message.content),
            None,
        )

    def _answer(self, reply: Message) -> list[Entry]:
        asked = self._asked.get(reply.metadata.reply_to_message_id)
        question = asked.question if asked else passing.question_of(reply.metadata.message_type)
        node = asked.node if asked else str(reply.metadata.src_node_id)
        if reply.has_error():
            if reply.error.code == ErrorCode.INVALID_FAB:  # the site's own words: it takes no such app
                words = plain_words(reply.error.reason or "")
                return [Refusal(question, self._sites.get(int(node), ""), node, words)]
            known = 0 <= reply.error.code < 10_000
            code = f"flower_error_{reply.error.code if known else 'other'}"
            return [Fault("failed", question, self._sites.get(int(node), ""), node, code)]
        fields = passing.fields_of(reply.content)
        refused = fields.get("refused")
        found: list[Entry] = []
        if question == DESCRIBE and refused == "":
            found += self._joined(int(node), fields.get("name"), passing.version_in(reply.content))
        site = self._sites.get(int(node), "")
        found.append(
            Received(
                question,
                site,
                node,
                asked.round_num if asked else 0,
                *passing.size_and_hash(reply.content),
                passing.head_in(reply.content),
            )
        )
        if not isinstance(refused, str):
            found.append(Fault("unreadable", question, site, node, "other_format"))
        elif refused:
            found.append(Refusal(question, site, node, plain_words(refused)))
        return found

    def _joined(self, node: int, name: Any, version: str) -> list[Entry]:
        try:
            check_site_name(name)
        except ValueError:
            return []
        if name not in self.names:
            return []
        own = next((one for one in self.grid.get_nodes() if one.node_id == node), None)
        if own is not None and getattr(own, "name", "") not in ("", name):
            return []  # it has the key of another site: see ``roll.py``
        self._sites[node] = name
        key = getattr(own, "public_key", b"")
        return [Joined(name, str(node), hashlib.sha256(key).hexdigest() if key else "", version)]
