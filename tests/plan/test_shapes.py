"""Parameters out of a configuration alone: exact, for models that are nowhere near this machine."""

from __future__ import annotations

import pytest

from fedmedlora.model.lora import attach_lora, read_adapter
from fedmedlora.model.weights import read_weights
from fedmedlora.plan.shapes import find_config, known_shapes, num_in, shape_model
from fedmedlora.study_tables import Lora


def test_the_adapter_of_llama_3_8b_has_41_9_million_parameters():
    """Rank 16 on all seven projections of 32 layers: r * (d_in + d_out) each.

    q, o: 4096 + 4096; k, v: 4096 + 1024; gate, up, down: 4096 + 14336. In all 81,920 a layer and rank.
    """
    shapes = shape_model(find_config("llama-3-8b"), Lora(rank=16, alpha=32.0), "bfloat16")
    a_layer = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)
    assert num_in(shapes.adapter) == 32 * 16 * a_layer == 41_943_040
    assert shapes.num_parameters == 8_030_261_248  # as its publisher counts it
    assert len(shapes.adapter) == 32 * 7 * 2
    # On query and value alone, as LoRA's own paper has it, it is a sixth.
    small = shape_model(find_config("llama-3-8b"), Lora(rank=16, alpha=32.0, targets="q_proj"), "bfloat16")
    assert num_in(small.adapter) == 32 * 16 * (4096 + 4096)


@pytest.mark.parametrize(
    ("name", "num"),
    [("smollm2-135m", 134_515_008), ("llama-3.2-1b", 1_235_814_400), ("llama-3.2-3b", 3_212_749_824)],
)
def test_known_shapes_have_their_publishers_sizes(name, num):
    assert shape_model(find_config(name), Lora(), "bfloat16").num_parameters == num


def test_a_hub_name_of_a_known_shape_needs_no_hub():
    assert find_config("meta-llama/Llama-3.1-8B-Instruct").source == "known shape llama-3.1-8b"
    names = [name for table in known_shapes().values() for name in table["names"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox", "gpt2"])
def test_shapes_are_those_of_the_model_with_its_weights(load, model_folders, kind):
    base = load(kind)
    model = attach_lora(base.model, rank=3, alpha=6.0)
    shapes = shape_model(find_config(str(model_folders[kind])), Lora(rank=3, alpha=6.0), "float32")
    assert shapes.adapter == read_adapter(model).shapes()
    assert shapes.whole == read_weights(model, whole=True).shapes()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("llama-3-8", "did you mean llama-3-8b"),
        ("nobody/nothing", "load it once"),
        ("tests", "no config.json"),
    ],
)
def test_a_model_that_is_not_known_here(name, says):
    with pytest.raises(ValueError, match=says):
        find_config(name)


def test_a_target_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match="'nowhere' matches no linear layer"):
        shape_model(find_config("smollm2-135m"), Lora(targets=("nowhere",)), "float32")
