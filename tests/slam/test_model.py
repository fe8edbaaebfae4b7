"""SLAM-ASR: only the projector learns, and no clip's answer depends on its company, its padding or a cache.

The language models here have random weights, large enough that their answers differ; what is proven holds for any weights.
"""

import copy
from random import Random

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from course_lib.data.batches import SpeechBatch
from course_lib.data.datasets import Example, encode_examples
from course_lib.data.grammar import draw_utterance
from course_lib.data.recogniser import Transcript
from course_lib.language_model.pretrained import load_llm
from course_lib.language_model.prompt import PROMPT, Candidate, generate_ids
from course_lib.slam import model
from course_lib.slam.letters import EmbeddingCtcHead
from course_lib.slam.model import LONGEST_WORD, SlamASR
from course_lib.slam.n_best import n_best_share
from course_lib.slam.projector import ConcatProjector
from course_lib.sound.audio import load_audio, save_wav
from course_lib.training.settings import TrainSettings
from course_lib.training.trainer import Trainer

TEXTS = ["hej verden", "det er godt", "nej", "jeg spiser en varm suppe i dag"]
SECONDS = (1.0, 2.37, 0.51, 1.6)


def make_llm(tokenizer, **overrides):
    """A Qwen2 whose random weights are large: what it writes depends on every audio token."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        attention_dropout=0.5,
        **{"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id} | overrides,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config)


def make_slam(encoder, llm, tokenizer, precision="fp32", dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        projector = ConcatProjector(encoder.feature_dim, 32, dropout=dropout)
    return SlamASR(encoder, projector, llm, tokenizer, precision=precision)


@pytest.fixture
def slam(encoder, tiny_llm):
    return make_slam(encoder, make_llm(tiny_llm.tokenizer), tiny_llm.tokenizer)


def voice(seconds, pitch):
    time = torch.arange(round(seconds * 16_000)) / 16_000
    harmonics = sum(torch.sin(2 * torch.pi * pitch * k * time) / k for k in range(1, 12))
    return 0.1 * harmonics * torch.sin(2 * torch.pi * 2 * time).abs()


@pytest.fixture(scope="module")
def waveforms():
    return [voice(seconds, 90 + 40 * number) for number, seconds in enumerate(SECONDS)]


@pytest.fixture(scope="module")
def features(encoder, waveforms):
    return [encoder.encode_waveform(waveform) for waveform in waveforms]


def everything(model):
    """A copy of every tensor of a model, buffers that are not saved included."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors}


def test_a_training_step_changes_the_projector_and_nothing_else(slam, features, tmp_path):
    before = everything(slam)
    settings = TrainSettings(
        num_epochs=1,
        gradient_accumulation_steps=2,
        warmup_steps=0,
        lr=0.01,
        weight_decay=0.5,
        validation_interval=1,
        num_threads=1,
        device="cpu",
    )
    batches = [SpeechBatch(features[:2], TEXTS[:2]), SpeechBatch(features[2:], TEXTS[2:])]
    Trainer(slam, lambda epoch: batches, 2, lambda: {"wer": 0.5}, settings, tmp_path).fit()
    changed = {name for name, tensor in everything(slam).items() if not torch.equal(tensor, before[name])}
    assert changed == {f"projector.layers.{number}.{kind}" for number in (1, 3) for kind in ("weight", "bias")}
    assert "prompt_ids" in before
    assert any("embed_positions" in name for name in before)


def test_only_the_projector_has_gradients_and_they_reach_all_of_it(slam, features):
    slam.train()
    slam(SpeechBatch(features[:2], TEXTS[:2])).loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in slam.projector.parameters())
    frozen = [*slam.encoder.parameters(), *slam.llm.parameters()]
    assert not any(parameter.requires_grad for parameter in frozen)
    assert all(parameter.grad is None for parameter in frozen)


def test_train_switches_the_projector_only(slam):
    assert slam.train() is slam
    assert slam.training
    assert all(module.training for module in slam.projector.modules())
    frozen = [*slam.encoder.modules(), *slam.llm.modules()]
    assert not any(module.training for module in frozen)
    around = nn.ModuleList([slam]).train()
    assert not any(module.training for module in frozen)
    around.eval()
    assert not any(module.training for module in slam.modules())


def test_five_seconds_and_a_transcript_become_the_guides_sequence(slam):
    batch = slam.sequences(SpeechBatch([torch.randn(250, 512)], ["hej verden"]))
    answer = slam.answer_ids("hej verden").tolist()
    assert batch.embeddings.shape == (1, 50 + 6 + len(answer), 32)
    assert batch.labels[0].tolist() == [-100] * 56 + answer
    embed = slam.llm.get_input_embeddings()
    torch.testing.assert_close(batch.embeddings[0, 50:56], embed(slam.prompt_ids))
    torch.testing.assert_close(batch.embeddings[0, 56:], embed(torch.tensor(answer)))


def test_end_of_text_is_the_last_label_of_every_row(slam, features):
    batch = slam.sequences(SpeechBatch(features, TEXTS))
    end = slam.tokenizer.eos_token_id
    for labels, mask, clip, text in zip(batch.labels, batch.attention_mask, features, TEXTS, strict=True):
        answer = slam.tokenizer(text).input_ids
        unlabelled = len(clip) // 5 + 6
        real = unlabelled + len(answer) + 1
        assert labels[:unlabelled].tolist() == [-100] * unlabelled
        assert labels[unlabelled:real].tolist() == [*answer, end]
        assert labels[real:].tolist() == [-100] * (len(labels) - real)
        assert mask.tolist() == [True] * real + [False] * (len(mask) - real)


def test_audio_tokens_are_the_same_in_a_batch_and_alone(slam, features):
    together = slam.audio_tokens(features)
    assert [len(tokens) for tokens in together] == [len(clip) // 5 for clip in features]
    for tokens, clip in zip(together, features, strict=True):
        torch.testing.assert_close(tokens, slam.audio_tokens([clip])[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(tokens, slam.projector(clip[None])[0], rtol=1e-5, atol=1e-5)


def test_the_loss_of_a_batch_is_that_of_its_clips_alone(slam, features):
    together = slam.loss(SpeechBatch(features, TEXTS))
    alone = [slam.loss(SpeechBatch([clip], [text])) for clip, text in zip(features, TEXTS, strict=True)]
    expected = sum(output.loss * output.label_tokens for output in alone) / together.label_tokens
    torch.testing.assert_close(together.loss, expected, rtol=1e-5, atol=1e-5)
    assert together.label_tokens == sum(len(slam.answer_ids(text)) for text in TEXTS)
    assert together.correct_tokens == sum(output.correct_tokens for output in alone)


def test_transcripts_are_the_same_in_a_batch_and_alone_and_in_any_order(slam, waveforms, monkeypatch):
    monkeypatch.setattr(slam, "max_new_tokens", 10)
    together = slam.transcribe(waveforms)
    assert len(set(together)) == len(waveforms)
    assert together == [slam.transcribe([waveform])[0] for waveform in waveforms]
    assert together == slam.transcribe(waveforms[::-1])[::-1]


def test_a_transcript_is_one_line_without_special_tokens(slam, features, monkeypatch):
    word = slam.tokenizer("hej").input_ids
    line_break = slam.tokenizer("\n").input_ids
    silence = [slam.tokenizer.convert_tokens_to_ids("<|silence|>")]
    ids = line_break + word + line_break + word + silence
    monkeypatch.setattr("course_lib.slam.model.generate_candidates", lambda *_: [[Candidate(ids, 0.0)]])
    assert slam.transcribe_features(features[:1]) == ["hej hej"]


@pytest.fixture
def spelling_slam(encoder, tiny_llm):
    projector = ConcatProjector(encoder.feature_dim, tiny_llm.model.config.hidden_size)
    llm = copy.deepcopy(tiny_llm.model)  # SlamASR freezes the one it is given
    return SlamASR(encoder, projector, llm, tiny_llm.tokenizer, precision="fp32", num_beams=3, ctc_weight=0.5)


def written_as(slam, **log_probabilities):
    return [Candidate(slam.tokenizer(text).input_ids, score) for text, score in log_probabilities.items()]


@pytest.mark.parametrize(("doubt", "chosen"), [(-1.0, "bil"), (-1000.0, "pil")])
def test_among_candidates_the_audio_tokens_have_a_vote(spelling_slam, features, monkeypatch, doubt, chosen):
    letters = spelling_slam.ctc_head
    heard = letters.embeddings[[letters.symbols.index(letter) for letter in "bil"]]
    monkeypatch.setattr(spelling_slam, "audio_tokens", lambda features: [heard])
    candidates = written_as(spelling_slam, pil=0.0, bil=doubt, bilen=-2.0)
    monkeypatch.setattr("course_lib.slam.model.generate_candidates", lambda *_: [candidates])
    assert spelling_slam.transcribe_features(features[:1]) == [chosen]
    spelling_slam.ctc_head = None
    assert spelling_slam.transcribe_features(features[:1]) == ["pil"]


def test_when_no_candidate_fits_the_clip_the_likeliest_is_taken(spelling_slam, features, monkeypatch):
    candidates = written_as(spelling_slam, jordbærgrød=-1.0, rabarbergrød=-2.0)
    monkeypatch.setattr("course_lib.slam.model.generate_candidates", lambda *_: [candidates])
    assert spelling_slam.transcribe_features([features[0][:5]]) == ["jordbærgrød"]


def test_hypotheses_are_in_the_order_of_both_scores_together(spelling_slam, features, monkeypatch):
    log_probabilities = {"ja": -3.0, "nej": -3.5, "tak": -2.0}
    monkeypatch.setattr(
        "course_lib.slam.model.generate_candidates", lambda *_: [written_as(spelling_slam, **log_probabilities)]
    )
    tokens = spelling_slam.audio_tokens(features[:1])[0].detach()
    reader = EmbeddingCtcHead(spelling_slam.llm, spelling_slam.tokenizer)
    spelled = dict(zip(log_probabilities, reader.log_likelihoods(tokens, list(log_probabilities)).tolist(), strict=True))
    found = spelling_slam.hypotheses(features[:1])[0]
    assert {text: score for text, score, _ in found} == log_probabilities
    assert {text: heard for text, _, heard in found} == pytest.approx(spelled)
    totals = [log_probabilities[text] + 0.5 * spelled[text] for text, *_ in found]
    assert totals == sorted(totals, reverse=True)


def with_word_list(slam, words, candidates):
    slam.word_list, slam.listed_candidates = words, candidates
    slam.listed_targets = slam.ctc_head.targets(words)


def heard_as(slam, text, monkeypatch):
    """The audio tokens of every clip become the embeddings of these letters."""
    letters = slam.ctc_head
    heard = letters.embeddings[[letters.symbols.index(letter) for letter in text]]
    monkeypatch.setattr(slam, "audio_tokens", lambda features: [heard] * len(features))
    return heard


def test_the_words_of_the_list_that_are_spelled_best_stand_for_election(spelling_slam, features, monkeypatch):
    with_word_list(spelling_slam, ["hund", "bil", "pil", "bjørn"], candidates=2)
    heard = heard_as(spelling_slam, "bil", monkeypatch)
    assert [spelling_slam.tokenizer.decode(word.ids) for word in spelling_slam.listed_words(heard)] == ["bil", "pil"]
    candidates = written_as(spelling_slam, skib=-1.0)
    monkeypatch.setattr("course_lib.slam.model.generate_candidates", lambda *_: [candidates])
    found = spelling_slam.hypotheses(features[:1])[0]
    assert {hypothesis.text for hypothesis in found} == {"skib", "bil", "pil"}


def test_a_word_that_the_beam_has_too_stands_once(spelling_slam, features, monkeypatch):
    with_word_list(spelling_slam, ["bil"], candidates=1)
    heard_as(spelling_slam, "bil", monkeypatch)
    candidates = written_as(spelling_slam, bil=-1.0, hund=-2.0)
    monkeypatch.setattr("course_lib.slam.model.generate_candidates", lambda *_: [candidates])
    assert sorted(hypothesis.text for hypothesis in spelling_slam.hypotheses(features[:1])[0]) == ["bil", "hund"]


def test_a_clip_too_long_for_a_word_and_one_too_short_get_none_of_the_list(spelling_slam, features, monkeypatch):
    with_word_list(spelling_slam, ["jordbærgrød"], candidates=1)
    assert spelling_slam.listed_words(heard_as(spelling_slam, "jo", monkeypatch)) == []
    heard_as(spelling_slam, "jordbærgrød", monkeypatch)
    monkeypatch.setattr("course_lib.slam.model.generate_candidates", lambda *_: [written_as(spelling_slam, hund=-1.0)])
    frames = spelling_slam.encoder.config.frames_per_second * LONGEST_WORD
    short, long = (features[0].new_zeros(int(frames) + more, features[0].shape[1]) for more in (0, 1))
    assert len(spelling_slam.hypotheses([short])[0]) == 2
    assert len(spelling_slam.hypotheses([long])[0]) == 1


def test_what_the_model_thinks_of_a_word_is_its_loss_on_it(spelling_slam, features):
    with_word_list(spelling_slam, ["hund", "kat", "æble"], candidates=3)
    tokens = spelling_slam.audio_tokens(features[:1])[0].detach()
    for word in spelling_slam.listed_words(tokens):
        text = spelling_slam.tokenizer.decode(word.ids)
        output = spelling_slam.loss(SpeechBatch(features[:1], [text]))
        assert word.log_probability == pytest.approx(-float(output.loss) * output.label_tokens, rel=1e-3)


def test_beams_with_a_vote_do_not_depend_on_the_batch(spelling_slam, features):
    spelling_slam.max_new_tokens = 6
    together = spelling_slam.transcribe_features(features)
    assert together == [spelling_slam.transcribe_features([clip])[0] for clip in features]


def test_a_beam_says_how_sure_it_is_and_one_sentence_alone_does_not(spelling_slam, features, monkeypatch):
    candidates = written_as(spelling_slam, ja=-1.0, nej=-1.5)
    monkeypatch.setattr("course_lib.slam.model.generate_candidates", lambda *_: [candidates])
    ranked = spelling_slam.hypotheses(features[:1])[0]
    assert spelling_slam.recognise(features[:1]) == [Transcript(ranked[0].text, n_best_share(ranked, 0.5))]
    spelling_slam.num_beams = 1
    monkeypatch.setattr("course_lib.slam.model.generate_candidates", lambda *_: [candidates[:1]])
    assert spelling_slam.recognise(features[:1]) == [Transcript("ja", None)]


def test_no_more_than_the_configured_tokens_are_written(slam, features, monkeypatch):
    limits = []
    write = model.generate_candidates
    monkeypatch.setattr(model, "generate_candidates", lambda *given: limits.append(given[2]) or write(*given))
    monkeypatch.setattr(slam, "max_new_tokens", 3)
    slam.transcribe_features(features[:1])
    assert limits == [3]


def test_the_loss_depends_on_the_sound(slam, features):
    right, other = (slam.loss(SpeechBatch([clip], TEXTS[:1])).loss for clip in features[:2])
    assert abs(right - other) > 1e-3


def test_cached_features_give_the_loss_and_the_tokens_of_live_ones(slam, encoder, waveforms, tmp_path):
    examples = []
    for number, (waveform, text) in enumerate(zip(waveforms, TEXTS, strict=True)):
        examples.append(Example(tmp_path / f"{number}.wav", text))
        save_wav(examples[-1].path, waveform)
    store = encode_examples(examples, encoder)
    cached = [store[number] for number in range(len(store))]
    live = slam.encode([load_audio(example.path) for example in examples])
    for tokens, expected in zip(slam.audio_tokens(cached), slam.audio_tokens(live), strict=True):
        assert (tokens - expected).abs().max() < 2e-3 * expected.abs().max()
    cached_loss, live_loss = (slam.loss(SpeechBatch(clips, TEXTS)).loss for clips in (cached, live))
    torch.testing.assert_close(cached_loss, live_loss, rtol=2e-3, atol=0)


def test_the_projector_stays_in_fp32_under_autocast(encoder, tiny_llm, features):
    slow, fast = (make_slam(encoder, make_llm(tiny_llm.tokenizer), tiny_llm.tokenizer, p) for p in ("fp32", "bf16"))
    expected = slow.audio_tokens(features[:2])
    with torch.autocast("cpu", torch.bfloat16):
        assert slow.projector(features[0][None]).dtype == torch.bfloat16
        tokens = fast.audio_tokens(features[:2])
    assert all(clip.dtype == torch.float32 for clip in tokens)
    for clip, other in zip(tokens, expected, strict=True):
        torch.testing.assert_close(clip, other)  # a hundred times closer than bf16 could come
    assert all(parameter.dtype == torch.float32 for parameter in fast.projector.parameters())


def test_bf16_is_close_and_its_loss_and_gradients_are_fp32(encoder, tiny_llm, features):
    slow, fast = (make_slam(encoder, make_llm(tiny_llm.tokenizer), tiny_llm.tokenizer, p) for p in ("fp32", "bf16"))
    batch = SpeechBatch(features, TEXTS)
    loss, expected = fast(batch).loss, slow(batch).loss
    assert loss.dtype == torch.float32
    assert 0 < (loss - expected).abs() < 0.02 * expected
    loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in fast.projector.parameters())


def test_training_clips_start_up_to_four_frames_late_and_others_never(slam):
    clip = torch.arange(30.0)[:, None].expand(30, 512)
    torch.manual_seed(0)
    starts = {int(slam._shift(clip)[0, 0]) for _ in range(200)}
    assert starts == {0, 1, 2, 3, 4}
    seen = []
    slam.projector.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0, 0, 0].item()))
    for _ in range(10):
        slam.loss(SpeechBatch([clip], ["hej"]))
    assert set(seen) == {0.0}
    slam.train()
    for _ in range(30):
        slam.loss(SpeechBatch([clip], ["hej"]))
    assert set(seen) == {0.0, 1.0, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("frames", [5, 6, 8])
def test_a_short_training_clip_keeps_at_least_one_audio_token(slam, frames):
    lengths = {len(slam._shift(torch.randn(frames, 512))) for _ in range(50)}
    assert min(lengths) == 5
    assert max(lengths) == frames


def test_dropout_in_the_projector_works_while_training_only(encoder, tiny_llm, features):
    slam = make_slam(encoder, make_llm(tiny_llm.tokenizer), tiny_llm.tokenizer, dropout=0.5)
    clip = [features[0]]
    torch.testing.assert_close(slam.audio_tokens(clip)[0], slam.audio_tokens(clip)[0])
    slam.train()
    assert not torch.equal(slam.audio_tokens(clip)[0], slam.audio_tokens(clip)[0])


def test_a_saved_model_of_qwens_shape_is_loaded_with_its_tokenizer(tiny_llm, tmp_path):
    tiny_llm.model.save_pretrained(tmp_path)
    tiny_llm.tokenizer.save_pretrained(tmp_path)
    llm, tokenizer = load_llm(str(tmp_path), "bf16")
    assert llm.dtype == torch.float32
    assert tokenizer("hej verden").input_ids == tiny_llm.tokenizer("hej verden").input_ids
    for name, weight in tiny_llm.model.state_dict().items():
        assert torch.equal(llm.state_dict()[name], weight)


def test_a_model_whose_tokenizer_has_no_pad_token_trains_and_transcribes(encoder, tiny_llm, features, tmp_path):
    backend = copy.deepcopy(tiny_llm.tokenizer.backend_tokenizer)
    bare = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    assert bare.pad_token_id is None
    bare.save_pretrained(tmp_path)
    make_llm(tiny_llm.tokenizer, pad_token_id=None).save_pretrained(tmp_path)
    llm, loaded = load_llm(str(tmp_path), "fp32")
    assert llm.config.pad_token_id is None
    assert loaded.eos_token_id == tiny_llm.tokenizer.eos_token_id
    batch = SpeechBatch(features, TEXTS)
    expected = make_slam(encoder, make_llm(tiny_llm.tokenizer), tiny_llm.tokenizer)
    for tokenizer in (bare, loaded):
        slam = make_slam(encoder, llm, tokenizer)
        torch.testing.assert_close(slam.loss(batch).loss, expected.loss(batch).loss, rtol=1e-5, atol=1e-6)
        slam.max_new_tokens = expected.max_new_tokens = 8
        assert slam.transcribe_features(features) == expected.transcribe_features(features)


def test_a_tokenizer_cuts_sentences_after_loading_as_it_did_in_training(tiny_llm, tmp_path):
    """AutoTokenizer takes any tokenizer beside a Qwen2 for Qwen2's own, and gives it Qwen2's way to split words."""
    tiny_llm.model.save_pretrained(tmp_path)
    tiny_llm.tokenizer.save_pretrained(tmp_path)
    _, loaded = load_llm(str(tmp_path))
    rng = Random("slam")
    for text in [PROMPT, *(draw_utterance(rng, "train") for _ in range(300))]:
        assert loaded(text).input_ids == tiny_llm.tokenizer(text).input_ids
        assert loaded.decode(loaded(text).input_ids) == text


def test_another_prompt_and_even_none_can_be_used(encoder, tiny_llm, features):
    llm = make_llm(tiny_llm.tokenizer)
    for prompt, tokens in (("", 0), ("Skriv: ", len(tiny_llm.tokenizer("Skriv: ").input_ids))):
        slam = SlamASR(encoder, ConcatProjector(512, 32), llm, tiny_llm.tokenizer, prompt, "fp32")
        batch = slam.sequences(SpeechBatch(features[:1], ["hej"]))
        assert batch.embeddings.shape[1] == len(features[0]) // 5 + tokens + len(slam.answer_ids("hej"))


def test_what_is_written_is_what_the_models_own_steps_give(slam, features):
    batch = slam.sequences(SpeechBatch(features[:1], ["hej"]))
    start = len(features[0]) // 5 + 6
    ids = generate_ids(slam.llm, slam._rows(slam.audio_tokens(features[:1]), None), 1)[0]
    logits = slam.llm(inputs_embeds=batch.embeddings[:, :start]).logits[0, -1]
    assert ids == [int(logits.argmax())]
