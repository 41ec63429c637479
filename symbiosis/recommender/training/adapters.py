"""Which weights of the backbone are trained: all of them, none, or low-rank adapters beside the attention's.

What the project adds to the backbone (ID embeddings, projection of texts, gates, learned R) is trained always. The
adapters are those of LoRA (Hu et al. 2022, arXiv 2106.09685), made by the library `peft`: ``W + alpha / rank * B A``
with B from 0, so that training starts at the base model.
"""

import warnings
from collections.abc import Callable

from symbiosis.recommender.network.gpt2 import GPT2, Conv1D
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.training.params import LoraParams, Tune

ADAPTED = r".*\.attn\.(c_attn|c_proj)|.*\.self_attn\.(q_proj|k_proj|v_proj|o_proj)"
"""Queries, keys and values, and the output of each attention; not the `c_proj` of the feed-forward network."""


def adapt(model: GraphGPT2, tune: Tune, lora: LoraParams) -> Callable[[], None]:
    """Prepare a model for training, in place.

    Parameters
    ----------
    model
        ``full``: nothing happens; ``frozen``: the backbone's weights take no gradient; ``lora``: nor here, but its
        attention has adapters, drawn by torch's generator.
    tune
        See above.
    lora
        Rank and scale of the adapters.

    Returns
    -------
    callable
        Call it after the training: it merges the adapters into the weights and removes them, so that what is saved is
        a plain model again.
    """
    if tune == "lora":
        # Slow to import, and nothing else needs it. `LoraModel` puts the adapters into the network itself, where
        # `PeftModel` would wrap it.
        from peft import LoraConfig, LoraModel
        from peft.tuners.lora import Linear

        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=0.0,
            target_modules=ADAPTED,
            fan_in_fan_out=isinstance(model.backbone, GPT2),
        )
        config._register_custom_module({Conv1D: Linear})
        with warnings.catch_warnings():
            # The library does not list our layer, but reads its widths from the same attributes as a linear layer's.
            warnings.filterwarnings("ignore", message="Unsupported layer type", category=UserWarning)
            adapters = LoraModel(model.backbone, config, "default")

        def merge() -> None:
            adapters.merge_and_unload()

        return merge
    if tune == "frozen":
        model.backbone.requires_grad_(False)
    return lambda: None
