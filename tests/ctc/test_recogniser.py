"""Stage B as a whole: CTC's loss as PyTorch has it, a config that says what is wrong, and folders that load to the bit."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from course_lib.config import CONFIG_FOLDER, ConfigError, build_config, load_config, replace, save_config
from course_lib.ctc import recogniser
from course_lib.ctc.paths import ctc_loss, greedy_decode, prefix_beam_search
from course_lib.ctc.recogniser import (
    CONFIG_NAME,
    SUBWORDS_NAME,
    StageBConfig,
    StageBRecogniser,
    load_stage_b,
    load_stage_b_encoder,
)
from course_lib.ctc.spec_augment import SpecAugment
from course_lib.data.batches import SpeechBatch
from course_lib.encoder.base import Padded
from course_lib.encoder.tiny import StageBEncoder
from course_lib.sound.mel import ctc_log_mel
from course_lib.text.vocabulary import CharVocabulary, SubwordVocabulary
from course_lib.training.checkpoints import save_weights, trainable_weights
from course_lib.training.settings import TrainSettings

DOCUMENTS_FIELDS = {
    "d_model": 192,
    "n_layers": 4,
    "n_heads": 3,
    "d_ff": 768,
    "dropout": 0.1,
    "downsample_time": 4,
    "data_path": "data/audio/asr.csv",
    "batch_size": 8,
    "num_epochs": 10,
    "learning_rate": 1e-4,
    "checkpoint_freq": 1000,
}
SMALL = DOCUMENTS_FIELDS | {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 24, "precision": "fp32"}


def noise(frames, seed=None):
    return torch.randn(frames, 128, generator=torch.Generator().manual_seed(frames if seed is None else seed))


@pytest.fixture
def model():
    torch.manual_seed(0)
    recogniser = StageBRecogniser(StageBEncoder(16, 1, 2, 24), CharVocabulary()).eval()
    # fresh weights say nearly the same at every frame
    with torch.no_grad():
        recogniser.head.weight.mul_(8)
    return recogniser


# "otte" needs 5 frames of 4 × 10 ms: 17 mel frames make 5, 16 make 4
POSSIBLE = SpeechBatch([noise(100), noise(60), noise(17)], ["en blå bil", "hej", "otte"])
IMPOSSIBLE = SpeechBatch([noise(16), noise(3)], ["otte", "nej"])


def test_the_loss_is_torchs_and_the_courses_own(model):
    output = model(POSSIBLE)
    log_probs, counts = model.log_probs(POSSIBLE.features)
    labels = [model.vocabulary.encode(text) for text in POSSIBLE.texts]
    targets, lengths = torch.tensor([symbol for text in labels for symbol in text]), torch.tensor([10, 3, 4])
    expected = nn.CTCLoss(blank=0)(log_probs.transpose(0, 1), targets, counts, lengths)
    assert counts.tolist() == [25, 15, 5]
    torch.testing.assert_close(output.loss, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(output.loss, ctc_loss(log_probs, labels, counts.tolist()), rtol=1e-5, atol=0)
    assert output.label_tokens == 17


def test_clips_without_an_alignment_cost_nothing_and_count_for_nothing(model):
    features, texts = [*IMPOSSIBLE.features, *POSSIBLE.features], [*IMPOSSIBLE.texts, *POSSIBLE.texts]
    mixed, alone = model(SpeechBatch(features, texts)), model(POSSIBLE)
    torch.testing.assert_close(mixed.loss, alone.loss, rtol=1e-5, atol=0)
    assert (mixed.correct_tokens, mixed.label_tokens) == (alone.correct_tokens, alone.label_tokens)
    assert math.isfinite(float(mixed.loss.detach()))
    nothing = model(IMPOSSIBLE)
    assert (nothing.loss.item(), nothing.correct_tokens, nothing.label_tokens) == (0.0, 0, 0)
    # a clip without a text has nothing to teach either
    assert model(SpeechBatch([noise(50)], [""])).label_tokens == 0


def test_the_gradient_is_that_of_the_feasible_clips(model):
    def gradients(batch):
        model.zero_grad()
        model(batch).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    mixed = SpeechBatch([*POSSIBLE.features, *IMPOSSIBLE.features], [*POSSIBLE.texts, *IMPOSSIBLE.texts])
    for ours, expected in zip(gradients(mixed), gradients(POSSIBLE), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        assert expected.abs().sum() > 0


def test_correct_are_the_symbols_of_clips_read_without_a_mistake(model, monkeypatch):
    hej, ja = ([*model.vocabulary.encode(text)] for text in ("hej", "ja"))
    paths = torch.tensor([[hej[0], 0, hej[1], hej[2], hej[2]], [ja[0], 0, ja[1], 0, ja[1]]])
    scores = 10 * nn.functional.one_hot(paths, 31).float()
    counts = torch.tensor([5, 5])
    monkeypatch.setattr(model, "log_probs", lambda features: (scores.log_softmax(dim=-1), counts))
    output = model.loss(SpeechBatch([noise(20), noise(20)], ["hej", "ja"]))
    assert (output.correct_tokens, output.label_tokens) == (3, 5)
    # what stands behind a clip's last frame is not read: "ja", and then padding
    counts = torch.tensor([5, 4])
    assert model.loss(SpeechBatch([noise(20), noise(20)], ["hej", "ja"])).correct_tokens == 5


def test_loss_has_no_gradient_and_forward_has(model):
    assert not model.loss(POSSIBLE).loss.requires_grad
    assert model(POSSIBLE).loss.requires_grad


def test_transcripts_are_the_same_alone_and_in_a_batch(model):
    clips = [noise(frames) for frames in (200, 31, 64, 1, 120)]
    together = model.transcribe_features(clips)
    assert together == [model.transcribe_features([clip])[0] for clip in clips]
    assert len(set(together)) > 2
    model.enc.double()
    log_probs, counts = model.log_probs([clip.double() for clip in clips])
    for row, count, clip in zip(log_probs, counts, clips, strict=True):
        alone, _ = model.log_probs([clip.double()])
        torch.testing.assert_close(row[:count], alone[0, :count], atol=1e-5, rtol=0)


def test_batches_are_padded_to_few_shapes(model, monkeypatch):
    shapes, inner = [], model.enc.forward
    monkeypatch.setattr(model.enc, "forward", lambda padded, counts: shapes.append(padded.shape) or inner(padded, counts))
    model.log_probs([noise(65), noise(20)])
    assert shapes == [(2, 80, 128)]


def test_log_probs_are_the_encoders_features_through_the_head(model):
    features, counts = model.enc(*Padded.of([noise(64), noise(30)]))
    log_probs, frames = model.log_probs([noise(64), noise(30)])
    torch.testing.assert_close(log_probs, nn.functional.log_softmax(model.head(features), dim=2))
    assert frames.tolist() == counts.tolist() == [16, 8]
    torch.testing.assert_close(log_probs.exp().sum(dim=2), torch.ones(2, 16))


def test_the_decode_hook_reads_every_clip_without_its_padding(model):
    seen = []
    model.decode = lambda log_probs: seen.append(log_probs.shape) or model.vocabulary.encode("ål")
    assert model.transcribe_features([noise(100), noise(41)]) == ["ål", "ål"]
    assert seen == [(25, 31), (11, 31)]
    model.decode = lambda log_probs: model.vocabulary.encode(" to  ord ")
    assert model.transcribe_features([noise(100)]) == ["to ord"]


def test_greedy_is_how_it_reads_until_told_otherwise(model):
    log_probs, counts = model.log_probs([noise(200)])
    clip = log_probs[0, : counts[0]].detach()
    read = model.transcribe_features([noise(200)])[0]
    assert read == " ".join(model.vocabulary.decode(greedy_decode(clip)).split())
    model.decode = lambda scores: prefix_beam_search(scores, 4)[0][0]
    assert model.transcribe_features([noise(200)]) == [
        " ".join(model.vocabulary.decode(prefix_beam_search(clip, 4)[0][0]).split())
    ]


def test_transcribe_takes_waveforms(model):
    waveforms = [0.1 * torch.randn(seconds * 8_000, generator=torch.Generator().manual_seed(seconds)) for seconds in (3, 1)]
    assert model.transcribe(waveforms) == model.transcribe_features([ctc_log_mel(waveform) for waveform in waveforms])


def test_spec_augment_is_for_training(model):
    model.spec_augment = SpecAugment()
    evaluated = model.log_probs([noise(100)])[0]
    torch.testing.assert_close(model.log_probs([noise(100)])[0], evaluated)
    model.train()
    assert not torch.equal(model.log_probs([noise(100)])[0], model.log_probs([noise(100)])[0])


@pytest.mark.parametrize("units", ["characters", "subwords"])
def test_a_run_folder_loads_to_the_bit(tmp_path, units):
    config = build_config(SMALL | {"units": units, "precision": "bf16"}, StageBConfig, "a test")
    vocabulary = CharVocabulary()
    if units == "subwords":
        vocabulary = SubwordVocabulary.train(["hej med dig", "hej hej"], 40)
        vocabulary.save(tmp_path / SUBWORDS_NAME)
    saved = StageBRecogniser(recogniser.build_encoder(config), vocabulary)
    save_config(config, tmp_path / CONFIG_NAME)
    save_weights(trainable_weights(saved), tmp_path / "audio_enc_step_7.safetensors")
    loaded = load_stage_b(tmp_path, "audio_enc_step_7.safetensors")
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.vocabulary.symbols == vocabulary.symbols
    assert (loaded.training, loaded.enc.precision, loaded.spec_augment) == (False, "fp32", None)


def test_the_encoder_loads_alone(tmp_path):
    config = build_config(SMALL, StageBConfig, "a test")
    saved = StageBRecogniser(recogniser.build_encoder(config), CharVocabulary())
    save_config(config, tmp_path / CONFIG_NAME)
    save_weights(trainable_weights(saved), tmp_path / "best.safetensors")
    encoder = load_stage_b_encoder(tmp_path, precision="bf16")
    stored = load_file(tmp_path / "best.safetensors")
    assert {f"enc.{name}" for name in encoder.state_dict()} == {name for name in stored if name.startswith("enc.")}
    assert all(torch.equal(tensor, stored[f"enc.{name}"]) for name, tensor in encoder.state_dict().items())
    assert set(stored) - {f"enc.{name}" for name in encoder.state_dict()} == {"head.weight", "head.bias"}
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.precision == "bf16"
    assert load_stage_b_encoder(tmp_path).precision == "fp32"
    assert load_stage_b_encoder(tmp_path).fingerprint == saved.enc.fingerprint


def test_a_folder_without_a_config_or_with_other_weights_is_refused_with_a_reason(tmp_path):
    with pytest.raises(ValueError, match=rf"no {CONFIG_NAME} here; give the run_folder of a Stage B training, or none"):
        load_stage_b(tmp_path)
    config = build_config(SMALL, StageBConfig, "a test")
    save_config(replace(config, d_ff=30), tmp_path / CONFIG_NAME)
    save_weights(
        trainable_weights(StageBRecogniser(recogniser.build_encoder(config), CharVocabulary())), tmp_path / "best.safetensors"
    )
    shapes = r"layers.0.feed_forward.0.weight: \(24, 16\) in the file, \(30, 16\) in the model"
    for load in (load_stage_b, load_stage_b_encoder):
        with pytest.raises(ValueError, match=shapes):
            load(tmp_path)


def refusals(values):
    with pytest.raises(ConfigError) as refusal:
        build_config(values, StageBConfig, "a.json")
    return [line.split(maxsplit=1) for line in str(refusal.value).splitlines()[1:-1]]


def test_the_documents_fields_are_all_it_takes_and_none_may_be_missing():
    config = build_config(DOCUMENTS_FIELDS, StageBConfig, "the document")
    assert DOCUMENTS_FIELDS.items() <= config.model_dump(by_alias=True).items()
    assert config.lr == DOCUMENTS_FIELDS["learning_rate"]
    for name in DOCUMENTS_FIELDS:
        rest = {other: value for other, value in DOCUMENTS_FIELDS.items() if other != name}
        assert [(field, reason[:14]) for field, reason in refusals(rest)] == [(name, "missing, needs")]
    assert {field for field, _ in refusals({})} == set(DOCUMENTS_FIELDS)


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [("learning_rte", "learning_rate"), ("dmodel", "d_model"), ("checkpoint_frequency", "checkpoint_freq")],
)
def test_an_unknown_field_is_refused_with_the_one_that_was_meant(unknown, meant):
    assert refusals(DOCUMENTS_FIELDS | {unknown: 1}) == [[unknown, f"no such field; did you mean {meant}?"]]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("learning_rate", 0.0, "0.0, must be above 0"),
        ("d_model", 0, "0, must be above 0"),
        ("n_layers", 0, "0, must be above 0"),
        ("n_heads", 0, "0, must be above 0"),
        ("d_ff", -1, "-1, must be above 0"),
        ("dropout", 0.91, "0.91, must be at most 0.9"),
        ("dropout", -0.1, "-0.1, must be at least 0"),
        ("downsample_time", 3, "3, needs 2, 4 or 8"),
        ("batch_size", 0, "0, must be above 0"),
        ("num_epochs", 0, "0, must be above 0"),
        ("checkpoint_freq", -1, "-1, must be at least 0"),
        ("report_interval", -1, "-1, must be at least 0"),
        ("validation_interval", 0, "0, must be above 0"),
        ("warmup_share", 1.0, "1.0, must be below 1"),
        ("weight_decay", -1.0, "-1.0, must be at least 0"),
        ("patience", -1, "-1, must be at least 0"),
        ("train_splits", [], "[], must not be empty"),
        ("train_clips", 0, "0, must be above 0 or null"),
        ("validation_clips", -5, "-5, must be above 0 or null"),
        ("units", "letters", "'letters', needs 'characters' or 'subwords'"),
        ("schedule", "cosine", "'cosine', needs 'one-cycle' or 'constant'"),
        ("optimizer", "sgd", "'sgd', needs 'adamw' or 'muon'"),
        ("spec_augment", 1, "1, needs true or false"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named_with_its_reason(field, value, reason):
    assert refusals(DOCUMENTS_FIELDS | {field: value}) == [[field, reason]]


@pytest.mark.parametrize("d_model", [190, 189])
def test_a_width_that_the_heads_cannot_share_is_refused(d_model):
    reason = f"3, d_model must be a multiple of 6, an even number for each head; it is {d_model}"
    assert refusals(DOCUMENTS_FIELDS | {"d_model": d_model}) == [["n_heads", reason]]


def test_too_few_subwords_are_refused_and_for_characters_their_number_does_not_matter():
    few = DOCUMENTS_FIELDS | {"subword_count": 39}
    assert refusals(few | {"units": "subwords"}) == [["subword_count", "39, the letters alone are 30, so 40 at least"]]
    assert build_config(few, StageBConfig, "a.json").units == "characters"
    assert build_config(few | {"units": "subwords", "subword_count": 40, "downsample_time": 8}, StageBConfig, "a.json")


def test_all_wrong_values_are_named_at_once():
    ranges = {"learning_rate": -1.0, "dropout": 2.0, "n_layers": 0, "checkpoint_freq": -1}
    disagreements = {"n_heads": 5, "units": "subwords", "subword_count": 39}
    assert {field for field, _ in refusals(DOCUMENTS_FIELDS | ranges | disagreements)} == {*ranges, "n_heads", "subword_count"}


def test_the_loop_is_told_what_a_document_without_words_for_it_means():
    config = build_config(DOCUMENTS_FIELDS, StageBConfig, "the document")
    assert isinstance(config, TrainSettings)
    assert (config.gradient_accumulation_steps, config.max_steps, config.monitor, config.tracker) == (1, 0, "wer", "none")
    # no document speaks of stopping early
    assert (config.patience, config.min_delta) == (0, 0.0)


def test_the_shipped_configs_are_accepted_and_have_every_field_of_the_document():
    files = sorted(CONFIG_FOLDER.glob("audio_enc_*.json"))
    assert CONFIG_NAME in {file.name for file in files}
    for file in files:
        config = load_config(file, StageBConfig)
        assert (config.d_model, config.n_layers, config.n_heads, config.d_ff, config.dropout) == (192, 4, 3, 768, 0.1)
        assert (config.downsample_time == 8) == (config.units == "subwords") == ("8x" in file.name)
        text = "\n".join(line.split("//")[0] for line in file.read_text(encoding="utf-8").splitlines())
        assert set(DOCUMENTS_FIELDS) <= set(json.loads(text))
