"""The models: the 135M demo model, and shapes of larger ones with random weights, made where they are used.

What a step costs depends on shapes alone, so random weights time a LLaMA as well as its own would. The shape
is built on torch's meta device, then every weight is drawn straight on the GPU in its final form, layer by
layer: the whole model never exists twice, nor on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch

from fedmedlora.model.attention import set_attention
from fedmedlora.model.cache import decoder
from fedmedlora.model.load import PRECISIONS, BaseModel, load_base_model, load_encoder
from fedmedlora.model.lora import attach_lora
from fedmedlora.model.tokens import Encoder
from fedmedlora.plan.shapes import find_config
from rows.sentences import examples
from rows.setting import DEMO, TITLES, Setting

RANK, ALPHA = 16, 32.0
STD = 0.02  # of random weights, as models are drawn before they are trained
_END = "<|end|>"


def title(shape: str, precision: str, setting: Setting, quantization: str = "none") -> str:
    """Where a row was measured, in words."""
    model = "a tiny random model" if setting.smoke else TITLES[shape]
    layers = f", {setting.layers} layers" if setting.layers and not setting.smoke else ""
    weights = "NF4" if quantization == "nf4" else precision
    return f"{'CPU' if setting.is_cpu else 'GPU'}, {model}{layers}, {weights}"


def load(shape: str, precision: str, setting: Setting, *, quantization: str = "none") -> BaseModel:
    """The base model, frozen, on the device of ``setting``."""
    if shape == DEMO and not setting.smoke:
        base = load_base_model(DEMO, precision=precision)
        keep_layers(base.model, setting.layers)
        return base
    encoder = tiny_encoder(setting) if setting.smoke else load_encoder(DEMO)
    config = tiny_config(len(encoder.tokenizer)) if setting.smoke else find_config(shape).config
    if setting.layers and not setting.smoke:
        config.num_hidden_layers = setting.layers
    device = torch.device(setting.device)
    model = random_model(config, device, PRECISIONS[precision], quantization)
    set_attention(model, is_cpu=setting.is_cpu, precision=precision)
    model.generation_config.pad_token_id = encoder.pad_id
    return BaseModel(
        name=shape,
        hash="",
        model=model.requires_grad_(False).eval(),
        encoder=encoder,
        device=device,
        num_parameters=sum(p.numel() for p in model.parameters()),
        precision=precision,
        quantization=quantization,
        revision="",
    )


def with_lora(base: BaseModel) -> Any:
    """PEFT's model over ``base``: r = 16 on all linear layers, no dropout, as every side trains it."""
    return attach_lora(base.model, rank=RANK, alpha=ALPHA)


def keep_layers(model: Any, num_layers: int) -> None:
    """Drop all decoder layers but the first ``num_layers``; 0 keeps all."""
    if num_layers:
        stack = decoder(model)
        stack.layers = stack.layers[:num_layers]
        model.config.num_hidden_layers = num_layers


def random_model(config: Any, device: torch.device, dtype: torch.dtype, quantization: str) -> Any:
    """A causal language model of ``config``, random, on ``device``; "nf4": linear layers in four bits."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    torch.manual_seed(0)
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if any(True for _ in module.buffers(recurse=False)):
            # Tables that are computed, such as rotary frequencies: made anew, for meta holds no numbers.
            put(model, name, type(module)(config=config).to(device))
        elif quantization == "nf4" and isinstance(module, torch.nn.Linear) and module is not head:
            put(model, name, four_bit(module, device, dtype))
        else:
            for part, meta in list(module.named_parameters(recurse=False)):
                values = drawn(meta.shape, device, dtype)
                setattr(module, part, torch.nn.Parameter(values, requires_grad=False))
    if config.tie_word_embeddings:
        model.tie_weights()
    if quantization == "nf4":
        model.is_loaded_in_4bit = True  # what PEFT asks before it puts LoRA on such layers
    left = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    assert not left, f"still on the meta device: {left[:3]}"
    return model


def drawn(shape: torch.Size, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Ones for the scales of norms, else normal."""
    if len(shape) == 1:
        return torch.ones(shape, device=device, dtype=dtype)
    return torch.empty(shape, device=device, dtype=dtype).normal_(std=STD)


def four_bit(linear: torch.nn.Linear, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """A random layer of the shape of ``linear`` in NF4, double quantization, as ``model/load.py`` has it."""
    import bitsandbytes

    layer = bitsandbytes.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=False,
        compute_dtype=dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    assert linear.bias is None, "LLaMA's layers have none"
    layer.weight = bitsandbytes.nn.Params4bit(
        drawn(linear.weight.shape, device, dtype),
        requires_grad=False,
        quant_type="nf4",
        compress_statistics=True,
    )
    layer = layer.to(device)
    assert layer.weight.dtype == torch.uint8, "two weights of four bits in a byte"
    return layer


def put(model: Any, name: str, module: torch.nn.Module) -> None:
    """Replace the submodule ``name``."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def tiny_config(vocab_size: int) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocab_size,
        bos_token_id=None,
        eos_token_id=0,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )


def tiny_encoder(setting: Setting) -> Encoder:
    """A small byte-level BPE tokenizer, trained on the prompts and some sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    some = [e for task in ("ner", "modifiers") for e in examples(setting, "train", task, 8)]
    tokenizer.train_from_iterator([text for e in some for text in (e.instruction, "".join(e.input))], trainer)
    return Encoder(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END, pad_token=_END))
