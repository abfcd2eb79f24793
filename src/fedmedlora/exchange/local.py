"""What a rule asks of a site beyond plain training: what is trained, what travels, how far it may move.

PEFT names the factors of a low-rank product ``...lora_A...`` and ``...lora_B...``. An adapter that
travels may hold both, one of them, or, of full-parameter training, every array of the model itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.settings import Range, setting

Part = Literal["both", "A", "B", "model"]
_FACTORS = {"A": ".lora_A.", "B": ".lora_B."}


@dataclass(frozen=True, slots=True)
class Local:
    """A site's part of a rule. The defaults are plain training of both factors, which travel.

    A site keeps what it trains and does not send from one round to the next.
    """

    trains: Literal["both", "B", "model"] = setting(
        "what is trained: both factors, B alone, or the model", "both"
    )
    sends: Literal["both", "A", "B", "model"] = setting("what travels", "both")
    proximal: float = setting(
        "mu: strength of the pull towards the adapter that the round began with", 0.0, within=Range(low=0)
    )
    learning_rate_factor: float = setting(
        "what the study's learning rate is multiplied by", 1.0, within=Range(low=0, high=1000, open_low=True)
    )

    def __post_init__(self) -> None:
        if (self.trains == "model") != (self.sends == "model"):
            raise ValueError('a whole model is trained and sent: trains and sends must both be "model"')
        if self.trains == "B" and self.sends != "B":
            raise ValueError(f'sends: "{self.sends}" holds what is not trained; a site that trains B sends B')

    @property
    def keeps(self) -> bool:
        """Whether a site keeps something of its own between rounds."""
        return self.trains == "both" and self.sends != "both"


def take(adapter: Adapter, part: Part) -> Adapter:
    """The arrays of ``adapter`` that belong to ``part``. Raises ``ValueError`` where there is none."""
    if part in ("both", "model"):
        return adapter
    kept = {name: array for name, array in adapter.arrays.items() if belongs(name, part)}
    if not kept:
        raise ValueError(f"the adapter has no factor {part}: none of its arrays is called *{_FACTORS[part]}*")
    return Adapter(kept)


def belongs(name: str, part: Part) -> bool:
    """Whether the array ``name`` is of ``part``."""
    return part in ("both", "model") or _FACTORS[part] in name


def factor_b(name: str) -> str | None:
    """What factor B is called where factor A is called ``name``; None: ``name`` is no factor A."""
    return name.replace(_FACTORS["A"], _FACTORS["B"], 1) if _FACTORS["A"] in name else None


def rest(adapter: Adapter, part: Part) -> Adapter:
    """The arrays of ``adapter`` that do not belong to ``part``, "A" or "B"."""
    return take(adapter, "B" if part == "A" else "A")


def is_whole_model(adapter: Adapter) -> bool:
    """Whether the arrays are a model's own parameters and not factors of LoRA."""
    return not any(factor in name for name in adapter.arrays for factor in _FACTORS.values())


def put(onto: Adapter, arrived: Adapter) -> Adapter:
    """``onto`` with the arrays of ``arrived`` in their places.

    Raises ``ValueError`` for an array that ``onto`` does not have, or has in another shape.
    """
    shapes = onto.shapes()
    for name, shape in arrived.shapes().items():
        if shapes.get(name) != shape:
            raise ValueError(
                f"array {name!r} of shape {shape} does not fit the adapter here; every site has the same "
                "base model, rank and targets"
            )
    return Adapter({**onto.arrays, **arrived.arrays})
