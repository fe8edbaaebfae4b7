"""Audio tokens and prompt → text, one token at a time, written out by hand: greedy, sampled, with a beam, and watched.

`prompt.generate_candidates` does the same with transformers, faster and for whole batches. These are for one clip, and to be
read: what is multiplied at each step, what was the runner-up, and where in the sound the model looked.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.compute import autocast
from course_lib.slam.model import SlamASR
from course_lib.sound.mel import whisper_log_mel

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers

Choose = Callable[[Float[Tensor, " vocab"]], int]
"""From the logits of one step to the token that is written."""


class Generation(NamedTuple):
    """What was written: token ids without end-of-text, the log-probability of each step (the end's is the last), whether the
    model stopped by itself, and how many positions went through its layers.
    """

    ids: list[int]
    log_probabilities: list[float]
    stopped: bool
    multiplied: int


def likeliest(logits: Float[Tensor, " vocab"]) -> int:
    """Greedy: the token with the highest logit. Temperature does not change it."""
    return int(logits.argmax())


def sampler(temperature: int | float, seed: int = 0) -> Choose:
    """Draw a token from softmax(logits / temperature); the nearer to 0, the more often the likeliest one.

    Temperature 0 is the limit: `likeliest`. Raises ValueError for a negative temperature.
    """
    if temperature < 0:
        raise ValueError(f"temperature {temperature}: must be 0 (always the likeliest token) or above")
    generator = torch.Generator().manual_seed(seed)

    def draw(logits: Float[Tensor, " vocab"]) -> int:
        # In double precision and from a uniform number, so that two machines draw the same tokens: `torch.multinomial` draws
        # exponential ones, and takes them from another library on every kind of processor.
        chances = (logits.double().cpu() / temperature).softmax(dim=0)
        point = torch.rand(1, dtype=torch.float64, generator=generator)
        return min(int(torch.searchsorted(chances.cumsum(dim=0), point, right=True)), len(chances) - 1)

    return draw if temperature else likeliest


def stop_ids(llm: "transformers.PreTrainedModel") -> set[int]:
    """The tokens at which a language model ends; Qwen2.5's chat models have two."""
    ends = llm.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def cache_name(llm: "transformers.PreTrainedModel") -> str:
    """How a language model's `forward` calls its key-value cache: transformers renamed `past_key_values` in 5.24."""
    return "cache" if "cache" in inspect.signature(llm.forward).parameters else "past_key_values"


@torch.no_grad()
def prefix_of(slam: SlamASR, features: Float[Tensor, "frames features"]) -> Float[Tensor, "positions llm_dim"]:
    """What the language model reads before it writes: a clip's audio tokens, then the prompt."""
    prompt = slam.llm.get_input_embeddings()(slam.prompt_ids)
    return torch.cat([slam.audio_tokens([features])[0].to(prompt.dtype), prompt])


@torch.no_grad()
def generate(
    llm: "transformers.PreTrainedModel",
    prefix: Float[Tensor, "positions llm_dim"],
    max_new_tokens: int = 64,
    choose: Choose = likeliest,
) -> Generation:
    """Write on after the prefix, reading everything again for every token: simple, and as slow as it sounds."""
    embed = llm.get_input_embeddings()
    ends = stop_ids(llm)
    sequence = prefix
    ids, log_probabilities = [], []
    multiplied = 0
    for _ in range(max_new_tokens):
        logits = llm(inputs_embeds=sequence[None], use_cache=False).logits[0, -1].float()
        multiplied += len(sequence)
        token = choose(logits)
        log_probabilities.append(float(logits.log_softmax(dim=0)[token]))
        if token in ends:
            return Generation(ids, log_probabilities, True, multiplied)
        ids.append(token)
        sequence = torch.cat([sequence, embed(torch.tensor([token], device=llm.device))])
    return Generation(ids, log_probabilities, False, multiplied)


@torch.no_grad()
def generate_cached(
    llm: "transformers.PreTrainedModel",
    prefix: Float[Tensor, "positions llm_dim"],
    max_new_tokens: int = 64,
    choose: Choose = likeliest,
) -> Generation:
    """The same with a key-value cache: keys and values of what was read are kept, and only the newest token is multiplied."""
    embed = llm.get_input_embeddings()
    ends = stop_ids(llm)
    unread = prefix
    cache = None
    ids, log_probabilities = [], []
    multiplied = 0
    for _ in range(max_new_tokens):
        output = llm(inputs_embeds=unread[None], use_cache=True, **{cache_name(llm): cache})
        logits = output.logits[0, -1].float()
        cache = output[1]  # by its place, for its name has changed: see cache_name
        multiplied += len(unread)
        token = choose(logits)
        log_probabilities.append(float(logits.log_softmax(dim=0)[token]))
        if token in ends:
            return Generation(ids, log_probabilities, True, multiplied)
        ids.append(token)
        unread = embed(torch.tensor([token], device=llm.device))
    return Generation(ids, log_probabilities, False, multiplied)


def beam_search(
    log_probs_after: Callable[[list[int]], Float[Tensor, " vocab"]], end_id: int, width: int, max_new_tokens: int = 64
) -> list[tuple[list[int], float]]:
    """Keep the `width` likeliest beginnings, lengthen each by every token, and keep the `width` likeliest again.

    Returns (ids without the end, log-probability), likeliest first. As transformers does without a length penalty: a sentence
    that ends counts if it is among the best `width` when it does. Raises ValueError for a width below 1.
    """
    if width < 1:
        raise ValueError(f"a beam keeps at least 1 beginning; got a width of {width}")
    live: list[tuple[list[int], float]] = [([], 0.0)]
    finished: list[tuple[list[int], float]] = []
    for _ in range(max_new_tokens):
        longer = [grown for ids, score in live for grown in _lengthen(ids, score, log_probs_after(ids), width + 1)]
        longer = sorted((one for one in longer if one[1] > -math.inf), key=lambda one: -one[1])
        finished += [(ids[:-1], score) for ids, score in longer[:width] if ids[-1] == end_id]
        live = [one for one in longer if one[0][-1] != end_id][:width]
        finished = sorted(finished, key=lambda one: -one[1])[:width]
        # A sentence only gets less likely as it grows, so no live one can overtake the worst that is kept.
        if not live or (len(finished) == width and live[0][1] <= finished[-1][1]):
            return finished
    return sorted(finished + live, key=lambda one: -one[1])[:width]


def _lengthen(ids: list[int], score: float, log_probs: Float[Tensor, " vocab"], most: int) -> list[tuple[list[int], float]]:
    best = log_probs.topk(min(most, len(log_probs)))
    return [([*ids, token], score + gain) for gain, token in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def next_log_probs(
    llm: "transformers.PreTrainedModel", prefix: Float[Tensor, "positions llm_dim"]
) -> Callable[[list[int]], Float[Tensor, " vocab"]]:
    """For `beam_search`: the log-probability of every token after the prefix and some ids; reads all of it every time."""

    @torch.no_grad()
    def after(ids: list[int]) -> Float[Tensor, " vocab"]:
        answer = llm.get_input_embeddings()(torch.tensor(ids, dtype=torch.long, device=llm.device))
        return llm(inputs_embeds=torch.cat([prefix, answer])[None], use_cache=False).logits[0, -1].float().log_softmax(dim=0)

    return after


@dataclass(frozen=True, eq=False)
class Step:
    """One step of writing: the text so far, the likeliest tokens with their probabilities, the first of which was written, and
    where the model looked from the newest position, as shares that add up to 1 for each layer and head.
    """

    before: str
    top: list[tuple[str, float]]
    attention: Float[Tensor, "layers heads positions"]


@dataclass(frozen=True, eq=False)
class Trace:
    """A clip and every step of writing it down greedily; positions are audio, then prompt, then what was written."""

    caption: str
    log_mel: Float[Tensor, "frames bins"]
    audio_count: int
    prompt_count: int
    seconds_per_token: float
    text: str
    steps: list[Step]

    def looks(self, step: int) -> Float[Tensor, " audio_tokens"]:
        """Attention to each audio token at a step, mean of all layers and heads."""
        return self.steps[step].attention.mean(dim=(0, 1))[: self.audio_count]

    def shares(self, step: int) -> dict[str, float]:
        """How attention is divided between sound, prompt and the text so far; adds up to 1."""
        looks = self.steps[step].attention.mean(dim=(0, 1))
        prompt_end = self.audio_count + self.prompt_count
        parts = {"sound": looks[: self.audio_count], "prompt": looks[self.audio_count : prompt_end], "text": looks[prompt_end:]}
        return {name: float(part.sum()) for name, part in parts.items()}


@torch.no_grad()
def trace_greedy(slam: SlamASR, waveform: Float[Tensor, "samples"], caption: str = "", max_new_tokens: int = 64) -> Trace:
    """Write a clip down greedily and keep of every step the five likeliest tokens and all attention; caption: the text.

    Needs a language model loaded with eager attention, as `load_llm` does on a CPU: the fused kernels never form the shares.
    Raises ValueError for another.
    """
    if slam.llm.config._attn_implementation != "eager":
        raise ValueError("attention can only be seen where it is computed step by step; load the system on a CPU")
    features = slam.encode([waveform])[0]
    prefix = prefix_of(slam, features)
    steps: list[Step] = []

    def note(ids: list[int], output: Any) -> int:
        logits = output.logits[0, -1].float()
        best = logits.softmax(dim=0).topk(5)
        pieces = [_piece(slam, token) for token in best.indices.tolist()]
        shares = torch.stack([layer[0, :, -1] for layer in output.attentions]).float().cpu()
        steps.append(Step(slam.tokenizer.decode(ids), list(zip(pieces, best.values.tolist(), strict=True)), shares))
        return int(best.indices[0])

    ids = _watch(slam, prefix, max_new_tokens, note)
    text = " ".join(slam.tokenizer.decode(ids, skip_special_tokens=True).split())
    audio_count = len(prefix) - len(slam.prompt_ids)
    seconds = slam.projector.k / slam.encoder.config.frames_per_second
    log_mel = whisper_log_mel(waveform)
    return Trace(caption or text, log_mel, audio_count, len(slam.prompt_ids), seconds, text, steps)


def _watch(
    slam: SlamASR, prefix: Float[Tensor, "positions llm_dim"], most: int, note: Callable[[list[int], Any], int]
) -> list[int]:
    """`generate_cached`, with ids and output of each step handed to `note`, which answers with the token to write."""
    embed = slam.llm.get_input_embeddings()
    ends = stop_ids(slam.llm)
    unread = prefix
    cache = None
    ids = []
    with autocast(slam.precision, slam.device):
        for _ in range(most):
            named = {cache_name(slam.llm): cache}
            output = slam.llm(inputs_embeds=unread[None], use_cache=True, output_attentions=True, **named)
            token = note(ids, output)
            cache = output[1]  # by its place, for its name has changed: see cache_name
            if token in ends:
                break
            ids.append(token)
            unread = embed(torch.tensor([token], device=slam.device))
    return ids


def _piece(slam: SlamASR, token: int) -> str:
    """A token as text; "⏹" for the one that ends the sentence."""
    return "⏹" if token in stop_ids(slam.llm) else slam.tokenizer.decode([token])
