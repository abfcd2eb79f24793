"""Flower's grid, and what passes through it told to a ``Live``: who is connected, asked, answering.

A grid around a grid: whoever asks sites over it need not know that somebody watches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedmedlora.flower.live import Live
from fedmedlora.flower.messages import DESCRIBE, FAILED, NOT_NOW, Letter


@dataclass(frozen=True)
class LiveGrid(Grid):
    """``grid``, of which ``live`` is told.

    Which node is which site is what a node says when it is asked to describe itself, if that is not the name
    of another one's key: the same that ``roll.py`` believes, who asks for the nodes before it asks them.
    Until then it is the site that its key was registered for.
    """

    grid: Grid
    live: Live
    _registered: dict[int, str] = field(default_factory=dict)  # node -> the site whose key it has
    _sites: dict[int, str] = field(default_factory=dict)
    _asked: dict[str, tuple[int, str]] = field(default_factory=dict)  # question -> (node, its kind)

    def get_node_ids(self) -> Iterable[int]:
        """See ``Grid``."""
        ids = list(self.grid.get_node_ids())
        self._tell_connected(ids)
        return ids

    def get_nodes(self) -> Iterable[Any]:
        """See ``Grid``: with what is known of them, which is who may call itself what."""
        nodes = list(self.grid.get_nodes())
        self._registered.update({one.node_id: getattr(one, "name", "") for one in nodes})
        self._tell_connected([one.node_id for one in nodes])
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterator[str]:
        """See ``Grid``."""
        messages = list(messages)
        for message, id_ in zip(messages, self.grid.push_messages(messages), strict=False):
            node = message.metadata.dst_node_id
            self._asked[id_] = (node, message.metadata.message_type)
            if message.metadata.message_type != DESCRIBE and node in self._sites:
                self.live.asked(self._sites[node], size(message.content))
            yield id_

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """See ``Grid``."""
        for reply in self.grid.pull_messages(message_ids):
            # To which question it is the answer, is for Flower to say: not for the site.
            node, kind = self._asked.pop(reply.metadata.reply_to_message_id, (None, ""))
            if node is not None:
                self._told(node, kind, reply)
            yield reply

    def _told(self, node: int, kind: str, reply: Message) -> None:
        if reply.has_error():
            self.live.failed(self._name_of(node))
            return
        told = _fields(reply.content)
        if FAILED in told:
            self.live.failed(self._name_of(node))
            return
        name, refused = told.get("name"), told.get("refused")
        if kind == DESCRIBE:
            if isinstance(name, str) and not refused and self._registered.get(node) in (None, "", name):
                self._sites[node] = name
                self.live.joined(name)
            return
        site, later = self._sites.get(node, ""), told.get(NOT_NOW)
        self.live.answered(site, size(reply.content), refused if isinstance(refused, str) else "")
        if isinstance(later, str):
            self.live.put_off(site, later)

    def _tell_connected(self, nodes: Iterable[int]) -> None:
        self.live.connected({self._name_of(node) for node in nodes})

    def _name_of(self, node: int) -> str:
        return self._sites.get(node) or self._registered.get(node) or ""

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
        """See ``Grid``."""
        return self.grid.send_and_receive(messages, timeout=timeout)


def size(records: RecordDict) -> int:
    """Bytes of a question's or an answer's text and adapters; what Flower puts around them is not counted."""
    total = 0
    for record in records.values():
        for value in record.values():
            data = getattr(value, "data", value)
            total += len(data) if isinstance(data, (bytes, str)) else 0
    return total


def _fields(records: RecordDict) -> dict[str, Any]:
    """What an answer says beside its adapters, which are not copied; nothing where it is none of ours."""
    try:
        text_alone = RecordDict({"fields": records["fields"], "parts": ArrayRecord()})
        return dict(Letter.from_records(text_alone).fields)
    except (KeyError, ValueError):
        return {}
