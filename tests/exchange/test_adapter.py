import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.wire import RECORD


def f32(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


SMALL = Adapter({"b": f32(1.0, -2.0), "a": np.array([[0.5]], dtype=np.float32)})

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
arrays = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), elements=finite
)
adapters = st.dictionaries(st.text(min_size=1, max_size=8), arrays, min_size=1, max_size=4).map(Adapter)


def file_of(header: dict | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + body


META = {RECORD: '{"format":"fedmedlora-adapter","version":1}'}


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_names_are_sorted_and_sizes_are_counted():
    assert list(SMALL.arrays) == ["a", "b"]
    assert SMALL.shapes() == {"a": (1, 1), "b": (2,)}
    assert (SMALL.num_parameters, SMALL.num_bytes) == (3, 12)
    assert repr(SMALL) == "Adapter(num_arrays=2, num_parameters=3)"


def test_the_hash_does_not_move():
    # Golden, from struct.pack: prefix; 1 "a" 2 1 1 0.5; 1 "b" 1 2 1.0 -2.0
    assert SMALL.hash() == "65dcb5f569da455605c0e631c0852c7cf52e762f3c854169c26b62003c222276"


def test_the_hash_tells_names_shapes_and_bits_apart():
    others = [
        Adapter({"x": f32(0.0, 0.0)}),
        Adapter({"x": f32(-0.0, 0.0)}),
        Adapter({"x": np.zeros((1, 2), np.float32)}),
        Adapter({"x": np.zeros((2, 1), np.float32)}),
        Adapter({"y": f32(0.0, 0.0)}),
        Adapter({"x": f32(0.0), "y": f32(0.0)}),
        Adapter({"x": f32(0.0, np.nan)}),
    ]
    assert len({one.hash() for one in others}) == len(others) == len(set(others))


def test_arrays_are_a_read_only_copy():
    given_array = f32(1.0, 2.0)
    adapter = Adapter({"x": given_array})
    given_array[0] = 9.0
    assert adapter.arrays["x"].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        adapter.arrays["x"][0] = 3.0
    with pytest.raises(TypeError):
        adapter.arrays["y"] = given_array  # type: ignore[index]
    with pytest.raises(AttributeError):
        adapter.arrays = {}  # type: ignore[misc]


def test_a_transposed_view_is_stored_in_c_order():
    view = np.arange(6, dtype=np.float32).reshape(2, 3).T
    adapter = Adapter({"x": view})
    assert adapter.arrays["x"].flags.c_contiguous
    assert adapter == Adapter({"x": np.ascontiguousarray(view)})


@pytest.mark.parametrize(
    ("given_arrays", "message"),
    [
        ({}, "at least one array"),
        ({"": f32(1.0)}, "cannot name"),
        ({"n" * 513: f32(1.0)}, "cannot name"),
        ({"__metadata__": f32(1.0)}, "cannot name"),
        ({"x": np.zeros(2)}, "'x' is float64.*astype"),
        ({"x": np.zeros(2, dtype=">f4")}, "'x' is >f4"),
        ({"x": np.zeros(2, dtype=np.float16)}, "float16"),
        ({"x": [1.0]}, "'x' is list"),
    ],
)
def test_what_is_no_adapter_is_refused(given_arrays, message):
    with pytest.raises(ValueError, match=message):
        Adapter(given_arrays)


@settings(deadline=None, max_examples=60)
@given(adapters)
def test_bytes_and_back_is_exact(adapter):
    again = Adapter.from_bytes(adapter.to_bytes(), check_finite=True)
    assert again == adapter
    assert again.shapes() == adapter.shapes()
    assert again.to_bytes() == adapter.to_bytes()


def test_bits_survive_nan_and_negative_zero_and_subnormals():
    adapter = Adapter({"x": f32(np.nan, -np.inf, -0.0, 1e-45)})
    assert Adapter.from_bytes(adapter.to_bytes()) == adapter
    assert adapter.non_finite() == "x"


def test_plain_safetensors_reads_it():
    found = load(SMALL.to_bytes())
    assert found["b"].tolist() == [1.0, -2.0]


def test_every_truncation_is_refused():
    data = SMALL.to_bytes()
    for length in range(len(data)):
        with pytest.raises(ValueError, match="fedmedlora-adapter"):
            Adapter.from_bytes(data[:length])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_refused_on_request(bad):
    data = Adapter({"good": f32(1.0), "x": f32(0.0, bad)}).to_bytes()
    with pytest.raises(ValueError, match="'x' holds NaN or infinity"):
        Adapter.from_bytes(data, check_finite=True)


OTHER_KIND = '{"format":"fedmedlora-update","version":1}'
WITH_EXTRA = META[RECORD][:-1] + ',"run":"me"}'
VALUE = f32(1.0).tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are too few"),
        (SMALL.to_bytes() + b"\0", "not a whole safetensors file"),
        (file_of({"__metadata__": META}, length=2**63), "claims 9223372036854775808 bytes"),
        (file_of({"__metadata__": META, "x": entry(0, 8, [2])}, VALUE), "not a whole"),
        (file_of({"__metadata__": META, "x": entry(0, 4, [2**40])}, VALUE), "not a whole"),
        (file_of({"__metadata__": META, "x": entry(0, 4, [-1])}, VALUE), "not a whole"),
        (
            file_of({"__metadata__": META, "x": entry(0, 4, [1]), "y": entry(0, 4, [1])}, VALUE),
            "not a whole",
        ),
        (file_of({"__metadata__": META, "x": entry(0, 4, [2], "F16")}, VALUE), "'F16'; only 'F32'"),
        (file_of({"__metadata__": META, "x": entry(0, 8, [1], "F64")}, VALUE * 2), "'F64'; only 'F32'"),
        (file_of({"__metadata__": META, "x": "pickle"}, VALUE), "dtype 'None'"),
        (file_of({"__metadata__": META}), "at least one array"),
        (file_of({"x": entry(0, 4, [1])}, VALUE), "'fedmedlora' is missing"),
        (file_of({"__metadata__": {"format": "pt"}, "x": entry(0, 4, [1])}, VALUE), "is missing"),
        (file_of({"__metadata__": {RECORD: "{"}}), "is not JSON"),
        (file_of({"__metadata__": {RECORD: "[]"}}), "is not a JSON object"),
        (file_of({"__metadata__": {RECORD: '{"version":1,"version":1}'}}), "'version' is named twice"),
        (file_of({"__metadata__": {RECORD: '{"format":"fedmedlora-adapter","version":2}'}}), "version '2'"),
        (file_of({"__metadata__": {RECORD: OTHER_KIND}}), "expected format"),
        (
            file_of({"__metadata__": {RECORD: WITH_EXTRA}, "x": entry(0, 4, [1])}, VALUE),
            "unknown metadata .'run'.",
        ),
        (file_of(b"[1]"), "not a JSON object"),
        (file_of(b"\xff\xfe"), "not a safetensors header"),
        (file_of(b"[" * 100_000), "not a safetensors header"),
        (file_of(b'{"x":{},"x":{}}'), "'x' is named twice"),
        (b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00.", "claims"),  # the opening of a pickle
    ],
)
def test_hostile_bytes_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        Adapter.from_bytes(data)


def test_an_array_named_twice_is_refused_though_the_library_takes_it():
    one = json.dumps(entry(0, 4, [1]))
    raw = f'{{"__metadata__":{json.dumps(META)},"x":{one},"x":{one}}}'.encode()
    data = file_of(raw, VALUE)
    assert list(load(data)) == ["x"]
    with pytest.raises(ValueError, match="'x' is named twice"):
        Adapter.from_bytes(data)


def test_a_foreign_safetensors_file_is_refused():
    with pytest.raises(ValueError, match="not written by fedmedlora"):
        Adapter.from_bytes(save({"x": f32(1.0)}))
