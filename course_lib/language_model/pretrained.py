"""A folder or a Hub id → a causal language model and its tokenizer: Qwen2.5 and our tiny one alike."""

from typing import TYPE_CHECKING

import torch

from course_lib.compute import Precision, resolve_precision
from course_lib.files import find_model

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers


def load_llm(
    name: str, precision: Precision = "auto", device: str = "cpu"
) -> tuple["transformers.PreTrainedModel", "transformers.PreTrainedTokenizerBase"]:
    """Load a causal language model and its tokenizer from a folder or the Hub: Qwen2.5 and our tiny one alike.

    On a GPU in bf16 the weights themselves are bf16 (half the memory); on a CPU they stay fp32 under autocast.
    """
    from course_lib.huggingface import transformers

    bf16_weights = device != "cpu" and resolve_precision(precision, device) == "bf16"
    folder = find_model(name)
    transformers.logging.disable_progress_bar()  # a bar for half a second of loading, in every notebook
    # On a CPU the fused kernel's backward pass is the slower one over 100 positions: by 4 % in fp32, by half in bf16.
    attention = "eager" if device == "cpu" else "sdpa"
    dtype = torch.bfloat16 if bf16_weights else torch.float32
    llm = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return llm.to(device), tokenizer
