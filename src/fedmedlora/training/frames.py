"""What two processes of one machine say to each other over a pipe: a line of JSON, and bytes behind it.

No pickle: what is read is numbers and texts, never code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import IO, Any

from fedmedlora.exchange.local import Local
from fedmedlora.model.tokens import TokenExample
from fedmedlora.tasks.example import PLAIN, Example
from fedmedlora.training.site import LocalTraining

Frame = tuple[dict[str, Any], bytes]

# All but the text.
_TRAINED_ON = tuple(f.name for f in fields(TokenExample) if f.name != "example")
_NOTHING = Example("", "", "", "", (), (), (), (), form=PLAIN)


def write_frame(stream: IO[bytes], header: dict[str, Any], data: bytes = b"") -> None:
    """Write one frame, at once."""
    stream.write(json.dumps({**header, "num_bytes": len(data)}).encode() + b"\n" + data)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Frame | None:
    """The next frame; None where the other end has closed, or was cut off."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header: dict[str, Any] = json.loads(line)
    data = stream.read(header["num_bytes"])
    return (header, data) if len(data) == header["num_bytes"] else None


def work_of(
    examples: Sequence[TokenExample],
    settings: LocalTraining,
    *,
    site: str,
    round_num: int,
    seed: int,
    local: Local | None,
) -> dict[str, Any]:
    """The header that asks for a round: what ``site.train_round`` takes, as JSON holds it.

    Of examples, what training looks at: token ids.
    """
    prefixes = {prefix: number for number, prefix in enumerate(dict.fromkeys(e.prefix for e in examples))}
    return {
        "settings": asdict(settings),
        "local": None if local is None else asdict(local),
        "prefixes": list(prefixes),
        "examples": [
            {name: getattr(e, name) for name in _TRAINED_ON} | {"prefix": prefixes[e.prefix]}
            for e in examples
        ],
        "site": site,
        "round_num": round_num,
        "seed": seed,
    }


def examples_of(header: dict[str, Any]) -> list[TokenExample]:
    """The examples of ``work_of``, in their order; which notes they are of is not told."""
    prefixes = [_tuples(prefix) for prefix in header["prefixes"]]
    found = []
    for record in header["examples"]:
        own = {name: _tuples(value) for name, value in record.items() if name != "prefix"}
        found.append(TokenExample(example=_NOTHING, prefix=prefixes[record["prefix"]], **own))
    return found


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
