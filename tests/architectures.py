"""Tiny networks of public packages, with random weights, and an input each; the packages are needed by tests alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

Built = tuple[nn.Module, Any]

BLOCK = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
CAUSAL = BLOCK | {"num_key_value_heads": 2, "vocab_size": 50, "num_hidden_layers": 2}
SEQ2SEQ = {
    "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 32, "vocab_size": 50, "pad_token_id": 0,
    "eos_token_id": 2, "bos_token_id": 1, "decoder_start_token_id": 1,
}  # fmt: skip
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
SEGFORMER = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 2]}
WAV2VEC2 = {
    "conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
MAMBA2 = {"state_size": 4, "head_dim": 16, "num_heads": 4, "expand": 2, "n_groups": 1, "chunk_size": 8}

# name → family, class, input, options of its config
HUGGING_FACE: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "ResNet": ("vision", "ResNetModel", "pixels", {"embedding_size": 8, "layer_type": "basic", **STAGES}),
    "RegNet": ("vision", "RegNetModel", "pixels", {"embedding_size": 8, "groups_width": 4, **STAGES}),
    "MobileNet v1": ("vision", "MobileNetV1Model", "pixels", {"depth_multiplier": 0.25}),
    "MobileNet v2": ("vision", "MobileNetV2Model", "pixels", {"depth_multiplier": 0.35}),
    "EfficientNet": ("vision", "EfficientNetModel", "pixels",
                     {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}),
    "ConvNeXt": ("vision", "ConvNextModel", "pixels", {"num_stages": 2, **STAGES}),
    "ConvNeXt v2": ("vision", "ConvNextV2Model", "pixels", {"num_stages": 2, **STAGES}),
    "ViT": ("vision", "ViTModel", "pixels", BLOCK | {"num_hidden_layers": 2, "image_size": 64}),
    "DINOv2": ("vision", "Dinov2Model", "pixels", BLOCK | {"num_hidden_layers": 2, "image_size": 64, "patch_size": 16}),
    "BEiT": ("vision", "BeitModel", "pixels", BLOCK | {"num_hidden_layers": 2, "image_size": 64}),
    "Swin": ("vision", "SwinModel", "pixels",
             {"image_size": 64, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}),
    "SegFormer": ("vision", "SegformerForSemanticSegmentation", "pixels", SEGFORMER | {"decoder_hidden_size": 16}),
    "BERT": ("language", "BertModel", "tokens", BLOCK | {"num_hidden_layers": 2, "vocab_size": 50}),
    "DistilBERT": ("language", "DistilBertModel", "tokens",
                   {"dim": 32, "n_heads": 2, "n_layers": 2, "hidden_dim": 32, "vocab_size": 50}),
    "GPT-2": ("language", "GPT2LMHeadModel", "tokens",
              {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 16}),
    "Llama": ("language", "LlamaForCausalLM", "tokens", CAUSAL),
    "Qwen3": ("language", "Qwen3ForCausalLM", "tokens", CAUSAL | {"head_dim": 16}),
    "Gemma": ("language", "GemmaForCausalLM", "tokens", CAUSAL | {"head_dim": 16}),
    "Mixtral": ("language", "MixtralForCausalLM", "tokens", CAUSAL | {"num_local_experts": 2}),
    "T5": ("language", "T5Model", "pairs",
           {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 50}),
    "BART": ("language", "BartModel", "pairs", SEQ2SEQ),
    "wav2vec2": ("speech", "Wav2Vec2Model", "sound", BLOCK | {"num_hidden_layers": 2, **WAV2VEC2}),
    "Whisper": ("speech", "WhisperModel", "spectrum",
                SEQ2SEQ | {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 16}),
    "Mamba": ("state space", "MambaForCausalLM", "tokens",
              {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 50, "state_size": 4}),
    "Mamba 2": ("state space", "Mamba2ForCausalLM", "tokens",
                {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 50, **MAMBA2}),
}  # fmt: skip


def _input(kind: str) -> dict[str, torch.Tensor]:
    tokens = torch.randint(0, 50, (2, 9))
    return {
        "pixels": {"pixel_values": torch.randn(2, 3, 64, 64)},
        "tokens": {"input_ids": tokens},
        "pairs": {"input_ids": tokens, "decoder_input_ids": tokens},
        "sound": {"input_values": torch.randn(2, 800)},
        "spectrum": {"input_features": torch.randn(2, 8, 40), "decoder_input_ids": tokens},
    }[kind]


def hugging_face(name: str) -> Built:
    import transformers

    transformers.logging.set_verbosity_error()
    _, model, kind, options = HUGGING_FACE[name]
    found = getattr(transformers, model)
    return found(found.config_class(**options)), _input(kind)


def _monai() -> dict[str, Callable[[], Built]]:
    from monai.networks import nets

    dense = {"init_features": 8, "growth_rate": 4, "block_config": (2, 2)}
    swin = {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (2, 2, 2, 2), "spatial_dims": 2}
    return {
        "U-Net 2-D": lambda: (nets.UNet(2, 1, 2, (4, 8, 16), (2, 2), norm="batch"), torch.randn(2, 1, 16, 16)),
        "U-Net 3-D": lambda: (nets.UNet(3, 1, 2, (4, 8, 16), (2, 2)), torch.randn(2, 1, 16, 16, 16)),
        "DenseNet": lambda: (nets.DenseNet(2, 1, 3, **dense), torch.randn(2, 1, 32, 32)),
        "DenseNet 3-D": lambda: (nets.DenseNet(3, 1, 3, **dense), torch.randn(2, 1, 16, 16, 16)),
        "SegResNet": lambda: (nets.SegResNet(3, 8, 1, 2), torch.randn(2, 1, 16, 16, 16)),
        "Swin UNETR": lambda: (nets.SwinUNETR(1, 2, **swin), torch.randn(2, 1, 64, 64)),
    }


MONAI = ("U-Net 2-D", "U-Net 3-D", "DenseNet", "DenseNet 3-D", "SegResNet", "Swin UNETR")
X_TRANSFORMERS: dict[str, dict[str, Any]] = {
    "x-transformers": {},
    "x-transformers, RMS": {"use_rmsnorm": True},
    "x-transformers, RMS without gain": {"use_simple_rmsnorm": True},
    "x-transformers, gain + 1": {"norm_add_unit_offset": True},
    "x-transformers, one gain": {"use_scalenorm": True},
    "x-transformers, sandwich": {"sandwich_norm": True},
}


def monai(name: str) -> Built:
    return _monai()[name]()


def x_transformers(name: str) -> Built:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=32, depth=1, heads=2, **X_TRANSFORMERS[name])
    return TransformerWrapper(num_tokens=50, max_seq_len=16, attn_layers=layers), torch.randint(0, 50, (2, 9))


# name → family, package, builder
ARCHITECTURES: dict[str, tuple[str, str, Callable[[str], Built]]] = {
    **{name: (row[0], "transformers", hugging_face) for name, row in HUGGING_FACE.items()},
    **dict.fromkeys(MONAI, ("medical", "monai", monai)),
    **dict.fromkeys(X_TRANSFORMERS, ("language", "x_transformers", x_transformers)),
}


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Those of floating-point numbers in a network's output, in their order."""
    if isinstance(value, torch.Tensor):
        yield from [value] if value.is_floating_point() else []
    elif hasattr(value, "values"):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
