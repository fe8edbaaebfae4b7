"""Sequences, labels, the loss and greedy writing, each against a plainer way to the same numbers."""

import copy

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2Config, Qwen2ForCausalLM

from course_lib.data.batches import SpeechBatch
from course_lib.encoder.tiny import StageBEncoder
from course_lib.language_model.prompt import (
    IGNORE_INDEX,
    PROMPT,
    Row,
    build_row,
    generate_candidates,
    generate_ids,
    label_loss,
    pad_rows,
    position_ids,
)
from course_lib.slam.model import SlamASR
from course_lib.slam.projector import ConcatProjector

LLM_DIM, VOCABULARY = 32, 64
END_OF_TEXT, PAD = 0, 1


def make_llm(attention="eager", **overrides):
    """A Qwen2 whose random weights are large, so that its answers differ from row to row and from token to token."""
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=LLM_DIM,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        initializer_range=0.2,
        attn_implementation=attention,
        **{"bos_token_id": None, "eos_token_id": END_OF_TEXT, "pad_token_id": PAD} | overrides,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def llm(request):
    """Both ways to compute attention: fully masked rows (padding on the left) have been NaN under SDPA."""
    return make_llm(request.param)


def make_rows(llm, answer_lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    embed, rows = llm.get_input_embeddings(), []
    prompt = embed(torch.arange(10, 16)).detach()
    for audio_tokens, answer_length in zip((3, 20, 11, 1), answer_lengths, strict=False):
        ids = torch.randint(2, VOCABULARY, (answer_length,), generator=generator)
        audio = 0.2 * torch.randn(audio_tokens, LLM_DIM, generator=generator)
        rows.append(build_row(audio, prompt, embed(ids).detach(), ids))
    return rows


def guide_row(answer_tokens=11):
    """The guide's example: 50 audio tokens, 6 of prompt, an answer at 56 … 66."""
    ids = torch.arange(2, 2 + answer_tokens)
    return build_row(torch.randn(50, LLM_DIM), torch.randn(6, LLM_DIM), torch.randn(answer_tokens, LLM_DIM), ids)


def test_the_prompt_is_six_tokens(tiny_llm):
    assert len(tiny_llm.tokenizer(PROMPT).input_ids) == 6
    assert tiny_llm.tokenizer.decode(tiny_llm.tokenizer(PROMPT).input_ids) == PROMPT


def test_audio_prompt_and_answer_stand_in_this_order():
    audio, prompt, answer = torch.full((2, 4), 1.0), torch.full((3, 4), 2.0), torch.full((2, 4), 3.0)
    row = build_row(audio, prompt, answer, torch.tensor([7, 8]))
    assert row.embeddings[:, 0].tolist() == [1, 1, 2, 2, 2, 3, 3]
    assert row.labels.tolist() == [-100] * 5 + [7, 8]


def test_the_guides_answer_has_labels_at_56_to_66():
    row = guide_row()
    assert row.embeddings.shape == (67, LLM_DIM)
    assert (row.labels != IGNORE_INDEX).nonzero().flatten().tolist() == list(range(56, 67))


def test_the_guides_answer_is_read_off_the_logits_at_55_to_65(llm):
    batch = pad_rows([guide_row()], side="right")
    hidden = llm.get_decoder()(inputs_embeds=batch.embeddings).last_hidden_state[0]
    seen = []
    handle = llm.get_output_embeddings().register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0]))
    label_loss(llm, batch)
    handle.remove()
    torch.testing.assert_close(seen[0], hidden[55:66])


def test_padding_has_no_labels_and_no_attention():
    rows = [Row(torch.ones(2, 4), torch.tensor([5, 6])), Row(torch.ones(4, 4), torch.tensor([-100, 7, 8, 9]))]
    right, left = pad_rows(rows, "right"), pad_rows(rows, "left")
    assert right.labels.tolist() == [[5, 6, -100, -100], [-100, 7, 8, 9]]
    assert left.labels.tolist() == [[-100, -100, 5, 6], [-100, 7, 8, 9]]
    assert right.attention_mask.tolist() == [[True, True, False, False], [True] * 4]
    assert left.attention_mask.tolist() == [[False, False, True, True], [True] * 4]
    assert right.embeddings[0, :, 0].tolist() == [1, 1, 0, 0]
    assert left.embeddings[0, :, 0].tolist() == [0, 0, 1, 1]


def test_positions_are_counted_from_the_first_real_token():
    mask = torch.tensor([[False, False, True, True], [True, True, True, True], [True, True, False, False]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3], [0, 1, 1, 1]]


def test_the_loss_hands_positions_and_mask_to_the_model(llm):
    batch = pad_rows(make_rows(llm, (4, 7)), side="left")
    seen = {}
    hook = lambda module, inputs, named: seen.update(named)  # noqa: E731
    handle = llm.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)
    label_loss(llm, batch)
    handle.remove()
    assert torch.equal(seen["position_ids"], position_ids(batch.attention_mask))
    assert torch.equal(seen["attention_mask"], batch.attention_mask.long())


def test_the_loss_is_that_of_transformers_over_full_logits(llm):
    batch = pad_rows(make_rows(llm, (4, 7, 1)), side="right")
    mask = batch.attention_mask.long()
    theirs = llm(inputs_embeds=batch.embeddings, attention_mask=mask, labels=batch.labels)
    ours = label_loss(llm, batch)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-5, atol=1e-6)
    targets, guesses = batch.labels[:, 1:], theirs.logits[:, :-1].argmax(dim=-1)
    assert ours.label_tokens == 12
    assert ours.correct_tokens == int((guesses == targets).sum())


def test_the_loss_is_the_mean_surprise_counted_one_by_one(llm):
    rows = make_rows(llm, (4, 7, 1))
    surprises = []
    for row in rows:
        likely = llm(inputs_embeds=row.embeddings[None]).logits[0].log_softmax(dim=-1).detach()
        surprises += [-float(likely[t - 1, label]) for t, label in enumerate(row.labels) if label != IGNORE_INDEX]
    assert len(surprises) == 12
    assert float(label_loss(llm, pad_rows(rows, "right")).loss.detach()) == pytest.approx(sum(surprises) / 12, rel=1e-5)


def graded_positions(llm, rows, side="right"):
    """Where the loss has a gradient at the language model's last hidden states, row by row, and the whole gradient."""
    seen = []

    def watch(decoder, inputs, output):
        output.last_hidden_state.requires_grad_().retain_grad()
        seen.append(output.last_hidden_state)

    handle = llm.get_decoder().register_forward_hook(watch)
    label_loss(llm, pad_rows(rows, side)).loss.backward()
    handle.remove()
    return [row.abs().sum(dim=1).nonzero().flatten().tolist() for row in seen[0].grad]


def test_masked_positions_have_no_gradient_and_those_before_a_label_do(llm):
    assert graded_positions(llm, [guide_row()]) == [list(range(55, 66))]
    # 3 + 6 and 20 + 6 positions of audio and prompt, then 4 and 7 of answer; the shorter row is padded.
    rows = make_rows(llm, (4, 7))
    assert graded_positions(llm, rows) == [list(range(8, 12)), list(range(25, 32))]
    assert graded_positions(llm, rows, "left") == [list(range(28, 32)), list(range(25, 32))]


def test_transformers_own_loss_has_its_gradient_at_the_same_logits(llm):
    batch = pad_rows(make_rows(llm, (4, 7)), side="right")
    output = llm(inputs_embeds=batch.embeddings, attention_mask=batch.attention_mask.long(), labels=batch.labels)
    (gradient,) = torch.autograd.grad(output.loss, output.logits)
    assert [row.abs().sum(dim=1).nonzero().flatten().tolist() for row in gradient] == graded_positions(
        llm, make_rows(llm, (4, 7))
    )


def test_the_end_is_graded_also_where_padding_has_its_id(llm):
    rows = []
    for row in make_rows(llm, (4, 7)):
        labels = row.labels.clone()
        labels[-1] = END_OF_TEXT
        rows.append(Row(row.embeddings, labels))
    batch = pad_rows(rows, "right")
    assert (batch.labels == END_OF_TEXT).sum() == 2
    assert label_loss(llm, batch).label_tokens == 11
    likely = llm(inputs_embeds=rows[0].embeddings[None]).logits[0].log_softmax(dim=-1)
    without = pad_rows([Row(rows[0].embeddings, rows[0].labels.where(rows[0].labels != END_OF_TEXT, IGNORE_INDEX))], "right")
    end_alone = 4 * label_loss(llm, pad_rows(rows[:1], "right")).loss - 3 * label_loss(llm, without).loss
    torch.testing.assert_close(end_alone, -likely[-2, END_OF_TEXT], rtol=1e-4, atol=1e-4)


def test_a_transcript_becomes_labels_that_end_in_end_of_text(tiny_llm):
    projector = ConcatProjector(24, tiny_llm.model.config.hidden_size, k=2)
    slam = SlamASR(StageBEncoder(24, 1, 2, 48), projector, copy.deepcopy(tiny_llm.model), tiny_llm.tokenizer, precision="fp32")
    batch = slam.sequences(SpeechBatch([torch.randn(10, 24), torch.randn(4, 24)], ["ja tak", "nej"]))
    for labels, text, before in zip(batch.labels.tolist(), ("ja tak", "nej"), (5 + 6, 2 + 6), strict=True):
        answer = [*tiny_llm.tokenizer(text).input_ids, tiny_llm.tokenizer.eos_token_id]
        assert labels[:before] == [IGNORE_INDEX] * before
        assert labels[before : before + len(answer)] == answer
        assert set(labels[before + len(answer) :]) <= {IGNORE_INDEX}


def test_correct_tokens_are_counted(llm):
    row = make_rows(llm, (6,))[0]
    logits = llm(inputs_embeds=row.embeddings[None]).logits[0]
    labels = row.labels.clone()
    labels[9:12] = logits[8:11].argmax(dim=-1)
    output = label_loss(llm, pad_rows([Row(row.embeddings, labels)], "right"))
    assert (output.correct_tokens, output.label_tokens) == (3 + int((logits[11:14].argmax(-1) == labels[12:15]).sum()), 6)


def test_padding_on_the_left_gives_the_same_loss_as_on_the_right(llm):
    rows = make_rows(llm, (4, 7, 1, 3))
    right, left = (label_loss(llm, pad_rows(rows, side)) for side in ("right", "left"))
    torch.testing.assert_close(left.loss, right.loss, rtol=1e-5, atol=1e-6)
    assert (left.correct_tokens, left.label_tokens) == (right.correct_tokens, right.label_tokens)


def test_the_loss_of_a_batch_is_the_mean_over_its_label_tokens(llm):
    rows = make_rows(llm, (4, 7, 1))
    together = label_loss(llm, pad_rows(rows, "right"))
    alone = [label_loss(llm, pad_rows([row], "right")) for row in rows]
    expected = sum(output.loss * output.label_tokens for output in alone) / 12
    torch.testing.assert_close(together.loss, expected, rtol=1e-5, atol=1e-6)
    assert together.correct_tokens == sum(output.correct_tokens for output in alone)


@torch.no_grad()
def write_by_hand(llm, row, max_new_tokens, stops=(END_OF_TEXT, PAD)):
    """Greedy writing without cache, padding or `generate`: read all, take the likeliest next token, append, read all."""
    embeddings, written = row.embeddings[None], []
    while len(written) < max_new_tokens:
        token = llm(inputs_embeds=embeddings, use_cache=False).logits[0, -1].argmax()
        if int(token) in stops:
            break
        written.append(int(token))
        embeddings = torch.cat([embeddings, llm.get_input_embeddings()(token)[None, None]], dim=1)
    return written


def test_writing_in_a_batch_is_writing_alone_is_writing_by_hand(llm):
    rows = make_rows(llm, (0, 0, 0, 0))
    together = generate_ids(llm, rows, 12)
    assert together == [generate_ids(llm, [row], 12)[0] for row in rows]
    assert together == [write_by_hand(llm, row, 12) for row in rows]
    assert len({tuple(ids) for ids in together}) == 4
    assert all(len(set(ids)) > 3 for ids in together)


@torch.no_grad()
def log_probability(llm, row, ids, asked_for):
    """Of these tokens after this row, and of the end, unless they fill all the room that was given."""
    ids = torch.tensor(ids if len(ids) == asked_for else [*ids, END_OF_TEXT])
    embeddings = torch.cat([row.embeddings, llm.get_input_embeddings()(ids)])[None]
    scores = llm(inputs_embeds=embeddings, use_cache=False).logits[0, len(row.embeddings) - 1 : -1].log_softmax(dim=-1)
    return float(scores.gather(1, ids[:, None]).sum())


def test_beams_find_answers_that_are_likelier_as_a_whole(llm):
    rows = [row for seed in range(3) for row in make_rows(llm, (0, 0, 0, 0), seed)]
    greedy, beams = generate_ids(llm, rows, 6), generate_ids(llm, rows, 6, num_beams=8)
    assert beams == [generate_ids(llm, [row], 6, num_beams=8)[0] for row in rows]
    likelier = [
        log_probability(llm, row, kept, 6) - log_probability(llm, row, first, 6)
        for row, kept, first in zip(rows, beams, greedy, strict=True)
    ]
    assert min(likelier) > -1e-4
    assert max(likelier) > 0.5


def test_candidates_come_likeliest_first_with_their_log_probability(llm):
    rows = make_rows(llm, (0, 0, 0, 0))
    for row, candidates in zip(rows, generate_candidates(llm, rows, 6, 5), strict=True):
        assert len({tuple(candidate.ids) for candidate in candidates}) == 5
        scores = [candidate.log_probability for candidate in candidates]
        assert scores == sorted(scores, reverse=True)
        expected = [log_probability(llm, row, candidate.ids, 6) for candidate in candidates]
        assert scores == pytest.approx(expected, abs=1e-3)


def test_one_beam_gives_one_candidate(llm):
    rows = make_rows(llm, (0, 0))
    assert [[candidate.ids] for [candidate] in generate_candidates(llm, rows, 6, 1)] == [
        [ids] for ids in generate_ids(llm, rows, 6)
    ]


def test_only_the_new_tokens_come_back_and_no_more_than_asked_for():
    llm = make_llm()
    rows = make_rows(llm, (0, 0))
    longer = generate_ids(llm, rows, 9)
    assert [len(ids) for ids in longer] == [9, 9]
    assert generate_ids(llm, rows, 4) == [ids[:4] for ids in longer]


@pytest.mark.parametrize("as_list", [False, True])
def test_writing_ends_before_any_end_of_text_token(as_list):
    llm = make_llm()
    rows = make_rows(llm, (0, 0, 0))
    free = generate_ids(llm, rows, 10)
    stop = free[1][4]
    llm.generation_config.eos_token_id = [END_OF_TEXT, stop] if as_list else stop
    expected = [ids[: ids.index(stop)] if stop in ids else ids for ids in free]
    assert len(expected[1]) <= 4 < len(free[1])
    assert generate_ids(llm, rows, 10) == expected


@pytest.mark.parametrize("pad", [None, 0])
def test_a_model_without_a_pad_token_of_its_own_still_stops(pad):
    with_pad, llm = make_llm(), make_llm(pad_token_id=pad)
    rows = make_rows(with_pad, (0, 0, 0))
    stop = generate_ids(with_pad, rows, 10)[1][4]
    for model in (with_pad, llm):
        model.generation_config.eos_token_id = [stop, END_OF_TEXT]
    assert generate_ids(llm, rows, 10) == generate_ids(with_pad, rows, 10)


def test_a_chat_models_own_settings_do_not_change_what_is_written():
    plain, chatty = make_llm(), make_llm()
    chatty.generation_config = copy.deepcopy(plain.generation_config)
    chatty.generation_config.update(repetition_penalty=5.0, do_sample=True, temperature=2.0)
    rows = make_rows(plain, (0, 0))
    free = generate_ids(plain, rows, 12)
    assert any(len(set(ids)) < len(ids) for ids in free)
    assert generate_ids(chatty, rows, 12) == free


def test_the_loss_reaches_the_audio_tokens_of_every_row_and_no_padding(llm):
    rows = make_rows(llm, (4, 7, 1))
    audio = [row.embeddings.clone().requires_grad_() for row in rows]
    batch = pad_rows([Row(a, row.labels) for a, row in zip(audio, rows, strict=True)], "right")
    label_loss(llm, batch).loss.backward()
    assert all((a.grad[:-1].abs().sum(dim=1) > 0).all() for a in audio)
    disturbed = pad_rows(rows, "right")
    disturbed.embeddings = pad_sequence([row.embeddings for row in rows], batch_first=True, padding_value=9.0)
    torch.testing.assert_close(label_loss(llm, disturbed).loss, label_loss(llm, pad_rows(rows, "right")).loss)
