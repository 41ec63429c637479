"""The configuration of `transformers` that equals one of ours, for tests that compare with the library's GPT-2."""

from transformers import GPT2Config

from symbiosis.recommender.network import gpt2


def stock_config(config: gpt2.GPT2Config) -> GPT2Config:
    """The same network; the end token is set because the library warns of its default beyond small vocabularies."""
    return GPT2Config(**config.to_dict(), bos_token_id=0, eos_token_id=0)
