"""Who sees what in the pool, worked out by hand."""

from __future__ import annotations

import torch

from fedmedlora.extraction.pool import Pool
from fedmedlora.model.cache import Prefix


def visible(mask: torch.Tensor) -> list[list[int]]:
    assert set(mask.unique().tolist()) <= {0.0, torch.finfo(torch.float32).min}
    return [[i for i, value in enumerate(row) if value == 0] for row in mask[0, 0].tolist()]


def pool_of_two() -> Pool:
    states = torch.arange(4.0).reshape(1, 1, 2, 2)  # one layer, one head, two tokens of width 2
    return Pool(Prefix((states,), (states + 10,)))


def test_rows_see_the_prefix_and_their_own_past():
    pool = pool_of_two()
    # Entries 0 and 1 are the prefix. Row 7 has positions 2 and 3, row 8 has position 2.
    slots, mask = pool.place([7, 7, 8], [2, 3, 2])
    assert slots == [2, 3, 4]
    assert visible(mask) == [[0, 1, 2], [0, 1, 2, 3], [0, 1, 4]]
    slots, mask = pool.place([8], [3])
    assert slots == [5]
    assert visible(mask) == [[0, 1, 4, 5]]


def test_thrown_away_entries_are_unseen_and_used_again():
    pool = pool_of_two()
    pool.place([7, 7, 8], [2, 3, 2])
    pool.release([3])
    slots, mask = pool.place([7, 8], [3, 3])
    assert slots == [3, 5]
    assert visible(mask) == [[0, 1, 2, 3], [0, 1, 4, 5]]
    pool.release([2, 3])  # row 7 is finished
    slots, mask = pool.place([9], [2])
    assert slots == [2]
    assert visible(mask) == [[0, 1, 2]]


def test_keys_and_values_lie_where_the_mask_says():
    pool = pool_of_two()
    (layer,) = pool.cache.layers
    pool.place([7, 8], [2, 2])
    new = torch.tensor([[[[50.0, 51.0], [60.0, 61.0]]]])
    keys, values = layer.update(new, new + 1)
    assert keys[0, 0].tolist() == [[0, 1], [2, 3], [50, 51], [60, 61]]
    assert values[0, 0].tolist() == [[10, 11], [12, 13], [51, 52], [61, 62]]
    pool.release([2])
    pool.place([8] * 9, list(range(3, 12)))  # grows; what is there stays
    keys, _ = layer.update(torch.zeros(1, 1, 9, 2), torch.zeros(1, 1, 9, 2))
    assert keys.shape == (1, 1, 12, 2)
    assert keys[0, 0, 3].tolist() == [60, 61]


def test_the_callers_prefix_is_not_written_to():
    states = torch.zeros(1, 1, 1, 2)
    prefix = Prefix((states,), (states,))
    pool = Pool(prefix)
    pool.place([0], [1])
    pool.cache.layers[0].update(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    assert prefix.keys[0].tolist() == [[[[0.0, 0.0]]]]
