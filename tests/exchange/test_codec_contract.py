"""Every file in ``exchange/codecs/`` against the laws in ``exchange/codec.py``, found by itself."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import FORMAT, base_of, change_bytes, receive, send
from fedmedlora.exchange.codec import CARRIED_BY, LARGEST, codec_name, known_codecs, load_codec
from fedmedlora.exchange.wire import LENGTH_BYTES
from fedmedlora.exchange.written import read, write, written_bytes

CODECS = {name: load_codec(name) for name in known_codecs()}
SEVERAL = {  # and the same with other settings
    **CODECS,
    "top_k, few": load_codec("top_k", {"share": 0.01}),
    "top_k, all": load_codec("top_k", {"share": 1.0}),
}
# A documented bound for every codec: (array, what comes back) -> the largest error allowed, per value.
EPS = 1 + 2.0**-18  # of the float32 operations themselves


def of_blocks(block: int, top: int):
    def bound(array, back):
        flat = np.abs(array.reshape(-1)).astype(np.float64)
        largest = [flat[i // block * block : i // block * block + block].max() for i in range(flat.size)]
        return np.maximum(np.array(largest) / (2 * top) * EPS, 2.0**-100).reshape(array.shape)

    return bound


BOUNDS = {
    "float32": lambda array, back: np.zeros(array.shape),
    "bfloat16": lambda array, back: np.maximum(np.abs(array.astype(np.float64)) * 2.0**-8, 2.0**-134),
    "int8": of_blocks(256, 127),
    "int4": of_blocks(64, 7),
    # No value is left out that is larger than one that is sent; those that are sent are exact.
    "top_k": lambda array, back: np.where(
        back != 0, 0, np.min(np.abs(array), initial=np.inf, where=back != 0)
    ),
}
ARRAYS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=24),
    elements=st.floats(-LARGEST, LARGEST, width=32),
)
NORMAL = hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=30).flatmap(
    lambda shape: st.integers(0, 99).map(
        lambda seed: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    )
)
each = pytest.mark.parametrize("name", SEVERAL)


def there_and_back(codec, array):
    return codec.decode(codec.encode(array), array.shape)


def example(seed=0):
    """(what both sides hold, what the sender wants the other to hold)."""
    rng = np.random.default_rng(seed)
    shapes = {"l.0.lora_A.w": (2, 37), "l.0.lora_B.w": (130, 2), "é|x": (1,), "none": (0, 3)}
    base = Adapter({n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()})
    wanted = {n: a + 0.1 * rng.standard_normal(a.shape).astype(np.float32) for n, a in base.arrays.items()}
    return base, Adapter(wanted)


def test_every_codec_has_a_bound_and_one_is_exact():
    assert BOUNDS.keys() == CODECS.keys()
    assert [name for name, codec in CODECS.items() if codec.is_exact] == ["float32"]
    assert all(codec_name(codec) == name for name, codec in CODECS.items())
    with pytest.raises(ValueError, match="known codecs: float32, "):
        load_codec("../float32")
    assert load_codec("int8", {"share": 0.5}) == load_codec("int8")  # it has no share


@each
@given(array=ARRAYS | NORMAL)
def test_shape_and_bound_and_contraction(name, array):
    codec = SEVERAL[name]
    before = array.copy()
    array.setflags(write=False)
    back = there_and_back(codec, array)
    assert (back.shape, back.dtype) == (array.shape, np.dtype(np.float32))
    assert array.tobytes() == before.tobytes()
    error = np.abs(back.astype(np.float64) - array.astype(np.float64))
    assert (error <= np.abs(array)).all()
    if np.abs(array).max(initial=0) >= 2.0**-99:
        assert np.sum(error**2) < np.sum(np.square(array, dtype=np.float64))
    assert (error <= BOUNDS[codec_name(codec)](array, back)).all()
    if codec.is_exact:
        assert back.tobytes() == array.tobytes()


@each
def test_zeros_stay_zeros(name):
    for shape in ((0,), (1,), (3, 0), (7, 11), (300,)):
        assert not there_and_back(SEVERAL[name], np.zeros(shape, np.float32)).any()
    some = np.zeros(200, np.float32)
    some[[3, 150]] = 1.0, -2.0
    assert not there_and_back(SEVERAL[name], some)[[0, 1, 2, 4, 149, 151, 199]].any()


@each
@given(array=ARRAYS | NORMAL)
def test_the_same_array_the_same_bytes_of_the_size_that_is_predicted(name, array):
    codec = SEVERAL[name]
    parts, again = codec.encode(array), codec.encode(np.asfortranarray(array).copy())
    specs = codec.specs(array.shape)
    assert parts.keys() == specs.keys() == again.keys()
    for part, spec in specs.items():
        assert parts[part].shape == spec.shape
        assert parts[part].dtype == CARRIED_BY[spec.dtype]
        assert parts[part].tobytes() == again[part].tobytes()
        assert parts[part].nbytes == spec.num_bytes


@each
def test_what_was_sent_is_what_both_hold(name):
    codec = SEVERAL[name]
    base, wanted = example()
    change = send(codec, base, wanted)
    assert receive(change.message, codec, base) == (change.received, {"base": base.hash()})
    assert send(codec, base, wanted).message == change.message
    assert len(change.message) == change_bytes(codec, base.shapes())
    assert change.base == base.hash() == base_of(change.message)
    assert change.received.shapes() == base.shapes() == change.residual.shapes()
    for key, array in wanted.arrays.items():
        np.testing.assert_array_equal(change.residual.arrays[key], array - change.received.arrays[key])


@each
def test_another_library_reads_the_file(name):
    base, wanted = example()
    message = send(SEVERAL[name], base, wanted).message
    specs = {
        f"{key}|{part}" if part else key: spec
        for key, shape in base.shapes().items()
        for part, spec in SEVERAL[name].specs(shape).items()
    }
    found = dict(safetensors.deserialize(message))
    assert {key: (entry["dtype"], tuple(entry["shape"])) for key, entry in found.items()} == {
        key: (spec.dtype, spec.shape) for key, spec in specs.items()
    }


def test_bfloat16_is_read_as_bfloat16():
    torch = pytest.importorskip("torch")
    from safetensors.torch import load

    values = np.array([1.0, -1.00390625, 1.01171875, 3.0e-39, 0.1, 1e30], np.float32)
    written = write(load_codec("bfloat16"), {"x": values})
    found = load(written.to_bytes({}))["x"]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, torch.from_numpy(values).to(torch.bfloat16))
    assert written.received["x"].tolist() == found.float().tolist()


@each
def test_what_is_no_whole_message_is_refused(name):
    codec = SEVERAL[name]
    base, wanted = example()
    data = send(codec, base, wanted).message
    for length in (0, 4, 8, 50, len(data) - 1):
        with pytest.raises(ValueError, match=FORMAT):
            receive(data[:length], codec, base)
    with pytest.raises(ValueError, match=r"fedmedlora-change: \d+ bytes where its arrays take"):
        receive(data + b"\0", codec, base)
    with pytest.raises(ValueError, match="claims"):
        receive((2**40).to_bytes(8, "little") + data[8:], codec, base)
    other = Adapter({**base.arrays, "é|x": np.ones(1, np.float32)})
    with pytest.raises(ValueError, match="fedmedlora-change: base is"):
        receive(data, codec, other)


@each
@settings(max_examples=150)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_bit_that_has_changed_is_noticed_or_changes_nothing(name, place, bit):
    codec = SEVERAL[name]
    base, wanted = example()
    change = send(codec, base, wanted)
    data = bytearray(change.message)
    data[place % len(data)] ^= 1 << bit
    with contextlib.suppress(ValueError):
        # Some last bits of a small change, or of a scale, are rounded away by the addition.
        assert receive(bytes(data), codec, base)[0] == change.received
        assert name in ("float32", "int4", "int8", "top_k", "top_k, few", "top_k, all")


@each
@settings(max_examples=50)
@given(data=st.binary(max_size=300))
def test_noise_is_refused(name, data):
    base, _ = example()
    for noise in (data, len(data).to_bytes(8, "little") + data):
        with pytest.raises(ValueError, match="fedmedlora-change"):
            receive(noise, SEVERAL[name], base)
        with pytest.raises(ValueError, match="fedmedlora-change"):
            base_of(noise)


@each
@settings(max_examples=100)
@given(content=st.binary(min_size=1000, max_size=1000))
def test_any_content_is_read_or_refused(name, content):
    """Parts of the right kinds and lengths with anything in them: finite values of the shape, or an error."""
    codec, shapes = SEVERAL[name], {"a": (7, 9), "b": (5,)}
    record = {"format": FORMAT}
    head = write(codec, {n: np.zeros(s, np.float32) for n, s in shapes.items()}).to_bytes(record)
    length = LENGTH_BYTES + int.from_bytes(head[:LENGTH_BYTES], "little")
    data = head[:length] + content[: len(head) - length]
    with contextlib.suppress(ValueError):
        found = read(data, codec, shapes, record, kind="x")
        assert {n: a.shape for n, a in found.items()} == shapes
        assert all(np.isfinite(a).all() for a in found.values())


def rewritten(data: bytes, change) -> bytes:
    """``data`` with the header that ``change`` makes of its own."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length])
    change(header)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + data[LENGTH_BYTES + length :]


@each
def test_another_header_is_refused(name):
    codec = SEVERAL[name]
    base, wanted = example()
    data = send(codec, base, wanted).message
    assert rewritten(data, lambda header: None) == data
    first = next(
        key for key in json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]) if "lora_A" in key
    )
    for change, message in (
        (lambda header: header.pop(first), f"array '{first.replace('|', '[|]')}' is missing"),
        (lambda header: header.update(more=header[first]), "'more' does not belong here"),
        (lambda header: header[first].update(dtype="F64"), "has dtype 'F64'"),
        (lambda header: header[first].update(shape=[2, 38]), "another shape"),
        (lambda header: header[first].update(shape=[2.0, 37]), "shape|another way"),
        (lambda header: header[first].update(data_offsets=[0, 2**50]), "another way"),
        (lambda header: header[first].update(more=1), "another way"),
        (lambda header: header.update({first: 3}), "has dtype 'None'"),
        (lambda header: header["__metadata__"].update(more="1"), "another way"),
        (lambda header: header["__metadata__"].update(fedmedlora="{}"), "expected format"),
        (lambda header: header.pop("__metadata__"), "were not written by fedmedlora"),
    ):
        with pytest.raises(ValueError, match=message):
            receive(rewritten(data, change), codec, base)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("codec", "int4", "codec is 'int4', and here it is 'int8'"),
        ("codec", 3, "codec is '3'"),
        ("base", "0" * 64, "base is '0000"),
        ("becomes", "0" * 64, "leads to another adapter"),
        ("becomes", None, "missing or of the wrong kind"),
        ("more", [1], "missing or of the wrong kind"),
        ("more", True, "missing or of the wrong kind"),
        ("version", 2, "same fedmedlora"),
    ],
)
def test_another_record_is_refused(key, value, message):
    codec = load_codec("int8")
    base, wanted = example()

    def change(header):
        record = json.loads(header["__metadata__"]["fedmedlora"]) | {key: value}
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        header["__metadata__"]["fedmedlora"] = text

    with pytest.raises(ValueError, match=message):
        receive(rewritten(send(codec, base, wanted).message, change), codec, base)


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_what_no_training_gives_is_not_sent(name, bad):
    base = Adapter({"a": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"array 'a' changed by .* diverged"):
        send(SEVERAL[name], base, Adapter({"a": np.array([0, bad, 0], np.float32)}))
    with pytest.raises(ValueError, match="has other arrays"):
        send(SEVERAL[name], base, Adapter({"b": np.zeros(3, np.float32)}))


@each
@given(array=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40), rounds=st.integers(2, 6))
@settings(max_examples=40)
def test_nothing_is_lost_for_good(name, array, rounds):
    """Where the sender wants the same every round, what is received and what is kept add up to it."""
    codec = SEVERAL[name]
    wanted = Adapter({"a": np.array(array, np.float32)})
    held = Adapter({"a": np.zeros(len(array), np.float32)})
    sizes = []
    for _ in range(rounds):
        change = send(codec, held, wanted)  # wanted - held is the residual and nothing else
        held = change.received
        total = change.residual.arrays["a"].astype(np.float64) + held.arrays["a"]
        np.testing.assert_allclose(total, wanted.arrays["a"], rtol=0, atol=1e-5)
        sizes.append(float(np.abs(change.residual.arrays["a"]).max()))
    assert sizes == sorted(sizes, reverse=True)


@each
def test_many_arrays_have_the_size_that_is_predicted(name):
    codec = SEVERAL[name]
    for shapes in (
        {"a": (1,)},
        {"b": (2, 3), "a": (4,), "c.lora_A.weight": (16, 576)},
        {f"layers.{i}.lora_B.weight": (i + 1, 2) for i in range(120)},
        {"empty": (0, 5), 'é"\\x': (3,), "x" * 500: (1, 1, 1)},
    ):
        arrays = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
        written = write(codec, arrays).to_bytes({"site": "é", "round_num": 12})
        assert written_bytes(codec, shapes, {"site": "é", "round_num": 12}) == len(written)
