"""A folder or a Hub id → a causal language model and its tokenizer: Qwen2.5 and our tiny one alike.

Nothing in a model's folder is ever run: `trust_remote_code` is False, and weights are safetensors.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from course_lib.compute import Precision, resolve_precision
from course_lib.errors import CourseError
from course_lib.files import find_model, refuse_changed
from course_lib.training.checkpoints import refuse_not_finite

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class LanguageModelError(CourseError):
    """A language model that cannot be loaded; the message names its folder or Hub id, and the way out."""


def load_llm(
    name: str, precision: Precision = "auto", device: str = "cpu"
) -> tuple["transformers.PreTrainedModel", "transformers.PreTrainedTokenizerBase"]:
    """Load a causal language model and its tokenizer from a folder or the Hub: Qwen2.5 and our tiny one alike.

    On a GPU in bf16 the weights themselves are bf16 (half the memory); on a CPU they stay fp32 under autocast.
    Raises LanguageModelError for a folder that holds no whole model, for weights that are damaged or not a number, and for a
    tokenizer of another model.
    """
    from course_lib.huggingface import transformers

    bf16_weights = device != "cpu" and resolve_precision(precision, device) == "bf16"
    folder = locate_llm(name)
    transformers.logging.disable_progress_bar()  # a bar for half a second of loading, in every notebook
    # On a CPU the fused kernel's backward pass is the slower one over 100 positions: by 4 % in fp32, by half in bf16.
    attention = "eager" if device == "cpu" else "sdpa"
    dtype = torch.bfloat16 if bf16_weights else torch.float32
    try:
        llm, found = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever a foreign folder, or the Hub, may bring about in transformers
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise LanguageModelError(f"{name}: not loaded ({reason[:200]}). Check the id, or copy the folder again.") from error
    _refuse_unfit(name, llm, found, tokenizer)
    return llm.to(device), tokenizer


def locate_llm(name: str) -> str:
    """The folder of a model that is here, or its Hub id; raises LanguageModelError for what is neither. Fetches nothing."""
    folder = Path(find_model(name))
    if not folder.is_dir():
        # "data/models" is spelled like a Hub id; an existing folder "data" shows what was meant.
        if not _HUB_ID.fullmatch(name) or Path(name).parent.is_dir():
            raise LanguageModelError(f"{name}: no folder seen from {Path.cwd()}, nor a Hub id like Qwen/Qwen2.5-0.5B.")
        return name
    weights = [*folder.glob("*.safetensors")]
    missing = [file for file in ("config.json", "tokenizer.json") if not (folder / file).is_file()]
    if missing or not weights:
        wanted = ", ".join([*missing, *([] if weights else ["safetensors weights"])])
        raise LanguageModelError(f"{folder}: no {wanted} in it. Name the folder of a language model with its tokenizer.")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise LanguageModelError(f"{folder / 'config.json'}: not JSON ({error}). Copy or download it again.") from error
    if not isinstance(config, dict) or "auto_map" in config:
        raise LanguageModelError(f"{folder}: asks to run code that lies in its folder, which this course never does.")
    refuse_changed(folder)
    return str(folder)


def _refuse_unfit(
    name: str, llm: "transformers.PreTrainedModel", found: dict, tokenizer: "transformers.PreTrainedTokenizerBase"
) -> None:
    """Raise LanguageModelError for what transformers fills up with random numbers, or passes over in silence."""
    for fault in ("missing_keys", "mismatched_keys"):
        names = sorted(str(key) for key in found.get(fault) or [])
        if names:
            kind = fault.removesuffix("_keys")
            raise LanguageModelError(f"{name}: {len(names)} weights are {kind}: {', '.join(names[:5])}. Copy the folder again.")
    refuse_not_finite(dict(llm.state_dict()), name)
    rows, tokens = llm.get_input_embeddings().weight.shape[0], len(tokenizer)
    ends = llm.config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    if tokens > rows:
        reason = f"the tokenizer has {tokens:,} tokens, the model {rows:,}"
    elif tokenizer.eos_token_id is None:
        reason = "the tokenizer has no end-of-text token"
    elif ends != [None] and tokenizer.eos_token_id not in ends:
        reason = f"the tokenizer ends a text with token {tokenizer.eos_token_id}, the model with {ends[0]}"
    else:
        return
    raise LanguageModelError(f"{name}: {reason}. It is another model's tokenizer; put the right one into the folder.")
