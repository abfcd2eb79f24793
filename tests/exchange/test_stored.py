"""Arrays that stay on the disk: the same bits, read when they are asked for."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.stored import StoredArrays

arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
adapters = st.dictionaries(st.text(min_size=1, max_size=8), arrays, min_size=1, max_size=4).map(Adapter)


@settings(max_examples=60, deadline=None)
@given(adapter=adapters)
def test_a_stored_adapter_is_the_same_adapter(adapter, tmp_path_factory):
    stored = Adapter.stored(StoredArrays(tmp_path_factory.mktemp("stored") / "x", adapter.arrays))
    assert stored == adapter  # NaN, signs of zero and all
    assert list(stored.arrays) == list(adapter.arrays)
    assert stored.shapes() == adapter.shapes()
    assert (stored.num_parameters, stored.num_bytes) == (adapter.num_parameters, adapter.num_bytes)
    assert stored.to_bytes() == adapter.to_bytes()
    assert stored.non_finite() == adapter.non_finite()
    assert (stored.is_stored, stored.loaded().is_stored, adapter.is_stored) == (True, False, False)
    assert stored.loaded() == adapter
    assert adapter.loaded() is adapter


@pytest.fixture
def stored(tmp_path):
    return Adapter.stored(
        StoredArrays(tmp_path / "x", {"b": np.ones(2, np.float32), "a": np.zeros(1, np.float32)})
    )


def test_names_and_shapes_are_known_without_the_file(stored, tmp_path):
    (tmp_path / "x").unlink()
    assert stored.shapes() == {"a": (1,), "b": (2,)}
    assert stored.num_bytes == 12
    assert "a" in stored.arrays
    assert "c" not in stored.arrays
    assert len(stored.arrays) == 2
    assert repr(stored) == "Adapter(num_arrays=2, num_parameters=3)"
    with pytest.raises(OSError, match=r"gone or damaged.*--resume"):
        stored.arrays["a"]
    with pytest.raises(KeyError):
        stored.arrays["c"]


def test_what_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OSError, match=r"nowhere.*8 bytes.*make room.*--resume"):
        StoredArrays(tmp_path / "nowhere" / "x", {"b": np.ones(2, np.float32)})


def test_a_damaged_file_is_noticed(stored, tmp_path):
    (tmp_path / "x").write_bytes(b"\xff" * 20)
    with pytest.raises(OSError, match="gone or damaged"):
        stored.arrays["a"]


def test_an_array_is_read_only_and_kept_by_nobody(stored):
    array = stored.arrays["b"]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5
    seen = weakref.ref(array)
    del array
    assert seen() is None
