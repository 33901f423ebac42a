"""A tiny Llama with random weights in float64, and a real tokenizer of as many words."""

from __future__ import annotations

from typing import Any

import torch

VOCABULARY, WIDTH = 61, 16


def llama(seed: int, *, dtype: torch.dtype = torch.float64, spread: float = 0.4) -> Any:
    """Two layers, 61 tokens, width 16. `spread`: of its weights; the wider, the less it doubts.

    Llama's own norms compute in float32 whatever the model's type, which would drown finite
    differences in rounding: torch's, of the same formula, take their place.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        initializer_range=spread,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        for path, module in list(model.named_modules()):
            if type(module).__name__ == "LlamaRMSNorm":
                norm = torch.nn.RMSNorm(WIDTH, eps=config.rms_norm_eps)
                torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
                model.set_submodule(path, norm)
    return model.to(dtype).eval().requires_grad_(False)


def tokenizer() -> Any:
    """Words "<s>", "</s>" (special) and "w2" ... "w60", one token each."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", *(f"w{number}" for number in range(2, VOCABULARY))]
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="</s>"))
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
