"""A whole Whisper as a system: what it is told, what it hears, and how its text comes back; with tiny random weights."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.utils import logging

from course_lib.evaluation.whisper_zero_shot import SPECIAL, WhisperZeroShot, load_whisper_zero_shot
from course_lib.sound.mel import whisper_log_mel
from course_lib.systems import SYSTEMS

TOKENS = ["Ġ", *"abcdefghij", "ĠHej", "ĠDet", "20", *SPECIAL.values(), "<|en|>", "<|translate|>"]


def make_tokenizer(tokens=TOKENS):
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token in tokens if token.startswith("<|")])
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Whisper with room for 2 s of sound, its token numbers left as the English model's, as in some conversions."""
    folder = tmp_path_factory.mktemp("whisper")
    sizes = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    }
    ids = {"decoder_start_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "bos_token_id": 2}
    config = WhisperConfig(
        vocab_size=len(TOKENS),
        num_mel_bins=80,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=100,
        max_target_positions=30,
        begin_suppress_tokens=[1, 2],
        **sizes,
        **ids,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        WhisperForConditionalGeneration(config).half().save_pretrained(folder)
    make_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def whisper(folder):
    return load_whisper_zero_shot(folder, max_new_tokens=6)


def noise(seconds, seed=0):
    return 0.1 * torch.randn(int(seconds * 16_000), generator=torch.Generator().manual_seed(seed))


def test_it_hears_whispers_log_mel_of_sound_and_silence(whisper):
    waveform = noise(0.7)
    heard = whisper.log_mel(waveform)
    padded = torch.cat([waveform, torch.zeros(2 * 16_000 - len(waveform))])
    assert heard.shape == (80, 200)
    torch.testing.assert_close(heard, whisper_log_mel(padded).T, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"2.5 s of sound; Whisper hears 2 s at once"):
        whisper.log_mel(noise(2.5))


def test_the_advice_on_long_audio_is_not_printed(whisper, monkeypatch):
    levels = []
    generate = whisper.model.generate
    monkeypatch.setattr(whisper.model, "generate", lambda *g, **n: levels.append(logging.get_verbosity()) or generate(*g, **n))
    before = logging.get_verbosity()
    whisper.transcribe([noise(1.0)])
    assert levels == [logging.ERROR]
    assert logging.get_verbosity() == before


def test_the_decoder_is_told_danish_transcribe_and_no_timestamps(whisper, monkeypatch):
    seen = []
    forward = whisper.model.forward

    def listen(*given, **named):
        seen.append(named["decoder_input_ids"].tolist())
        return forward(*given, **named)

    monkeypatch.setattr(whisper.model, "forward", listen)
    whisper.transcribe([noise(1.0)])
    expected = [SPECIAL[name] for name in ("start", "language", "task", "no_timestamps")]
    assert [whisper.tokenizer.id_to_token(token) for token in seen[0][0]] == expected


def written_as(whisper, monkeypatch, rows):
    monkeypatch.setattr(whisper.model, "generate", lambda *given, **named: torch.tensor(rows))
    return whisper.transcribe([noise(0.5)] * len(rows))


def test_the_text_comes_back_normalised_and_without_special_tokens(whisper, monkeypatch):
    ids = {token: number for number, token in enumerate(TOKENS)}
    start = [ids[SPECIAL[name]] for name in ("start", "language", "task", "no_timestamps")]
    first = [*start, ids["ĠHej"], ids["ĠDet"], ids[SPECIAL["end"]]]
    second = [*start, ids["Ġ"], ids["20"], ids[SPECIAL["end"]]]
    assert written_as(whisper, monkeypatch, [first, second + second[-1:] * 0]) == ["hej det", "tyve"]


def test_a_clip_is_transcribed_the_same_alone_and_in_a_batch_and_within_the_limit(whisper):
    waveforms = [noise(1.0, 1), noise(1.9, 2)]
    together = whisper.transcribe(waveforms)
    assert together == [whisper.transcribe([waveform])[0] for waveform in waveforms]
    assert whisper.model.dtype == torch.float32


def test_no_more_than_the_limit_is_written(whisper, monkeypatch):
    asked = []
    generate = whisper.model.generate
    monkeypatch.setattr(whisper.model, "generate", lambda *g, **n: asked.append(n["max_new_tokens"]) or generate(*g, **n))
    whisper.transcribe([noise(1.0)])
    monkeypatch.setattr(whisper, "max_new_tokens", 3)
    whisper.transcribe([noise(1.0)])
    assert asked == [6, 3]


def test_the_end_is_the_tokenizers_not_the_configs(whisper):
    end = TOKENS.index(SPECIAL["end"])
    config = whisper.model.generation_config
    assert (config.eos_token_id, config.pad_token_id) == (end, end)
    assert config.begin_suppress_tokens == [0, end]
    assert (config.num_beams, config.do_sample) == (1, False)


def test_a_tokenizer_without_danish_is_refused(whisper):
    english = make_tokenizer([token for token in TOKENS if token != "<|da|>"])
    with pytest.raises(ValueError, match=r"no <\|da\|>; a multilingual Whisper is needed"):
        WhisperZeroShot(whisper.model, english)


def test_a_folder_without_a_tokenizer_is_refused_with_advice(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.json here; name the folder of a whole Whisper"):
        load_whisper_zero_shot(tmp_path)


def test_it_is_a_system_by_name():
    assert SYSTEMS["whisper"] is load_whisper_zero_shot
