"""Decoding by hand: the same tokens as transformers, with and without a cache; beams on cases small enough to enumerate."""

import itertools
import math

import pytest
import torch

from course_lib.language_model.prompt import Row, generate_candidates
from course_lib.slam.decoding import (
    beam_search,
    generate,
    generate_cached,
    likeliest,
    next_log_probs,
    prefix_of,
    sampler,
    stop_ids,
    trace_greedy,
)
from course_lib.systems import load_slam


@pytest.fixture(scope="module")
def slam(tiny_run):
    return load_slam(tiny_run.folder)


@pytest.fixture(scope="module")
def waveform():
    return 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def prefix(slam, waveform):
    return prefix_of(slam, slam.encode([waveform])[0])


def as_row(prefix):
    return Row(prefix, torch.full((len(prefix),), -100))


def test_the_prefix_is_sound_then_prompt(slam, waveform, prefix):
    tokens = slam.audio_tokens(slam.encode([waveform]))[0]
    # Encoded twice, a clip may differ in its last bits: matrix libraries look at where in memory a tensor lies.
    torch.testing.assert_close(prefix[: len(tokens)], tokens)
    assert torch.equal(prefix[len(tokens) :], slam.llm.get_input_embeddings()(slam.prompt_ids))


def test_by_hand_with_and_without_a_cache_and_by_transformers_the_tokens_are_the_same(slam, prefix):
    plain, cached = generate(slam.llm, prefix, 12), generate_cached(slam.llm, prefix, 12)
    theirs = generate_candidates(slam.llm, [as_row(prefix)], 12, 1)[0][0].ids
    assert plain.ids == cached.ids == theirs
    assert len(theirs) > 1
    assert plain.log_probabilities == pytest.approx(cached.log_probabilities, abs=1e-4)


def test_a_cache_saves_multiplied_positions(slam, prefix):
    plain, cached = generate(slam.llm, prefix, 7), generate_cached(slam.llm, prefix, 7)
    assert not plain.stopped
    assert plain.multiplied == sum(len(prefix) + step for step in range(7))
    assert cached.multiplied == len(prefix) + 6


@pytest.mark.parametrize("writer", [generate, generate_cached])
def test_the_end_stops_the_writing_and_is_scored_but_not_returned(slam, prefix, writer):
    choices = iter([9, 10, 0, 11])
    written = writer(slam.llm, prefix, 8, choose=lambda logits: next(choices))
    assert (written.ids, written.stopped) == ([9, 10], True)
    assert len(written.log_probabilities) == 3
    assert written.multiplied == (len(prefix) + 2 if writer is generate_cached else 3 * len(prefix) + 3)


@pytest.mark.parametrize("writer", [generate, generate_cached])
def test_every_step_is_scored_after_what_was_written(slam, prefix, writer):
    choices = iter([9, 30])
    written = writer(slam.llm, prefix, 2, choose=lambda logits: next(choices))
    after = next_log_probs(slam.llm, prefix)
    assert written.log_probabilities == pytest.approx([float(after([])[9]), float(after([9])[30])], abs=1e-4)
    assert not written.stopped


def test_a_model_may_have_one_end_or_two(tiny_llm, monkeypatch):
    assert stop_ids(tiny_llm.model) == {0}
    monkeypatch.setattr(tiny_llm.model.generation_config, "eos_token_id", [4, 7])
    assert stop_ids(tiny_llm.model) == {4, 7}


def test_sampling_draws_with_the_chances_of_the_softmax():
    logits = torch.tensor([1.0, 0.0, 2.0])
    draw = sampler(temperature=2.0)
    draws = [draw(logits) for _ in range(4000)]
    shares = [draws.count(token) / 4000 for token in range(3)]
    assert shares == pytest.approx((logits / 2).softmax(dim=0).tolist(), abs=0.03)


def test_near_temperature_nought_sampling_is_greedy():
    logits = torch.tensor([1.0, 0.0, 1.2])
    cold = sampler(0.01)
    assert {cold(logits) for _ in range(200)} == {2}
    assert sampler(0) is likeliest
    assert likeliest(logits) == 2


def test_a_seed_makes_the_draws_and_a_negative_temperature_is_refused():
    logits = torch.zeros(50)
    first, again, other = ([draw(logits) for _ in range(20)] for draw in (sampler(1, 3), sampler(1, 3), sampler(1, 4)))
    assert first == again != other
    with pytest.raises(ValueError, match="temperature -1: must be 0"):
        sampler(-1)


# Four tokens, 0 is the end. Greedy takes 1 (0.5), but then every way on is poor; 2 (0.4) goes on with 0.9.
TREE = {(): [0.0, 0.5, 0.4, 0.1], (1,): [0.35, 0.25, 0.2, 0.2], (2,): [0.9, 0.05, 0.05, 0.0], (3,): [1.0, 0.0, 0.0, 0.0]}


def after_tree(ids):
    return torch.tensor(TREE.get(tuple(ids), [1.0, 0.0, 0.0, 0.0])).log()


def test_a_beam_finds_what_greedy_misses():
    greedy, wide = beam_search(after_tree, 0, 1), beam_search(after_tree, 0, 2)
    assert greedy[0] == ([1], pytest.approx(math.log(0.5 * 0.35), abs=1e-5))
    assert wide[0] == ([2], pytest.approx(math.log(0.4 * 0.9), abs=1e-5))
    assert [ids for ids, _ in wide] == [[2], [1]]


def test_a_beam_that_drops_nothing_finds_the_best_of_all_sentences():
    torch.manual_seed(0)
    tables = {ids: torch.randn(3).log_softmax(dim=0) for n in range(4) for ids in itertools.product((1, 2), repeat=n)}
    tables |= {ids: torch.tensor([0.0, -math.inf, -math.inf]) for ids in itertools.product((1, 2), repeat=4)}
    every = {}
    for ids in tables:
        steps = [tables[ids[:n]][token] for n, token in enumerate(ids)]
        every[ids] = float(sum(steps, torch.tensor(0.0)) + tables[ids][0])
    best = sorted(every.items(), key=lambda one: -one[1])[:5]
    found = beam_search(lambda ids: tables[tuple(ids)], 0, width=40)[:5]
    assert [tuple(ids) for ids, _ in found] == [ids for ids, _ in best]
    assert [score for _, score in found] == pytest.approx([score for _, score in best], abs=1e-5)


@pytest.mark.parametrize("width", [2, 4])
def test_the_beam_is_that_of_transformers(slam, prefix, width):
    ours = beam_search(next_log_probs(slam.llm, prefix), 0, width, max_new_tokens=6)
    theirs = generate_candidates(slam.llm, [as_row(prefix)], 6, width)[0]
    assert [ids for ids, _ in ours] == [candidate.ids for candidate in theirs]
    assert [score for _, score in ours] == pytest.approx([c.log_probability for c in theirs], abs=1e-3)


def test_a_beam_of_no_width_is_refused():
    with pytest.raises(ValueError, match="at least 1 beginning; got a width of 0"):
        beam_search(after_tree, 0, 0)


@pytest.fixture(scope="module")
def trace(slam, waveform):
    return trace_greedy(slam, waveform, "noise", max_new_tokens=6)


def test_a_trace_writes_what_greedy_writes(slam, prefix, trace):
    written = generate_cached(slam.llm, prefix, 6)
    assert trace.text == " ".join(slam.tokenizer.decode(written.ids).split())
    assert [math.log(step.top[0][1]) for step in trace.steps] == pytest.approx(written.log_probabilities, abs=1e-4)
    assert [step.before for step in trace.steps] == [slam.tokenizer.decode(written.ids[:n]) for n in range(len(trace.steps))]
    assert trace.caption == "noise"


def test_the_five_likeliest_come_in_order_and_as_text(slam, prefix, trace):
    best = next_log_probs(slam.llm, prefix)([]).exp().topk(5)
    assert trace.steps[0].top == [
        (slam.tokenizer.decode([token]), pytest.approx(chance, abs=1e-5))
        for token, chance in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def test_attention_is_that_of_the_newest_position_and_adds_up_to_one(slam, prefix, trace):
    whole = slam.llm(inputs_embeds=prefix[None], output_attentions=True, use_cache=False).attentions
    by_hand = torch.stack([layer[0, :, -1] for layer in whole]).detach()
    assert torch.allclose(trace.steps[0].attention, by_hand, atol=1e-5)
    for number, step in enumerate(trace.steps):
        assert step.attention.shape == (2, by_hand.shape[1], len(prefix) + number)
        assert torch.allclose(step.attention.sum(dim=-1), torch.ones(by_hand.shape[:2]), atol=1e-5)


def test_looks_and_shares_part_the_positions(slam, prefix, trace):
    audio = len(prefix) - len(slam.prompt_ids)
    assert (trace.audio_count, trace.prompt_count) == (audio, len(slam.prompt_ids))
    last = len(trace.steps) - 1
    mean = trace.steps[last].attention.mean(dim=(0, 1))
    assert torch.equal(trace.looks(last), mean[:audio])
    shares = trace.shares(last)
    assert list(shares) == ["sound", "prompt", "text"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert shares["text"] == pytest.approx(float(mean[audio + len(slam.prompt_ids) :].sum()), abs=1e-6)
    assert trace.shares(0)["text"] == 0


def test_an_audio_token_lasts_as_long_as_its_frames(slam, trace):
    assert trace.seconds_per_token == slam.projector.k / 50
    assert trace.audio_count == 50 // slam.projector.k
    assert trace.log_mel.shape == (100, 80)


def test_without_a_caption_the_text_is_the_caption(slam, waveform):
    bare = trace_greedy(slam, waveform, max_new_tokens=2)
    assert bare.caption == bare.text
    assert len(bare.steps) == 2


def test_the_end_of_the_text_has_a_sign_of_its_own(slam, waveform, monkeypatch):
    monkeypatch.setattr("course_lib.slam.decoding.stop_ids", lambda llm: set(range(len(slam.tokenizer))))
    trace = trace_greedy(slam, waveform, "x")
    assert len(trace.steps) == 1
    assert [piece for piece, _ in trace.steps[0].top] == ["⏹"] * 5


def test_attention_that_was_never_formed_is_refused(slam, waveform, monkeypatch):
    monkeypatch.setattr(slam.llm.config, "_attn_implementation_internal", "sdpa")
    with pytest.raises(ValueError, match="load the system on a CPU"):
        trace_greedy(slam, waveform)
