"""The encoder written out equals transformers' modules, layer by layer, and its costs are the ones that PyTorch counts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig
from transformers.models.whisper import modeling_whisper

from course_lib.encoder.whisper import WhisperEncoder
from course_lib.encoder.whisper_layers import (
    attention_weights,
    convolve,
    count_multiplications,
    hidden_states,
    self_similarity,
    transformer_layer,
)


@pytest.fixture
def log_mel():
    return torch.randn(61, 80, generator=torch.Generator().manual_seed(0)) * 0.4


@pytest.mark.parametrize(("frames", "positions"), [(1, 1), (2, 1), (61, 31), (62, 31)])
def test_convolutions_halve_and_round_up(encoder, frames, positions):
    assert convolve(encoder, torch.zeros(frames, 80)).shape == (positions, 512)


def test_a_row_hears_five_frames(encoder, log_mel):
    log_mel.requires_grad_()
    convolve(encoder, log_mel)[10].sum().backward()
    assert log_mel.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [18, 19, 20, 21, 22]


@pytest.mark.parametrize("index", range(6))
def test_each_layer_is_transformers(encoder, log_mel, index):
    layer, hidden = encoder.whisper.layers[index], hidden_states(encoder, log_mel)[index]
    with torch.no_grad():
        expected = layer(hidden[None], None)[0]
        torch.testing.assert_close(transformer_layer(hidden, layer), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_attention_weights_are_shares(encoder, log_mel):
    layer, hidden = encoder.whisper.layers[0], hidden_states(encoder, log_mel)[0]
    with torch.no_grad():
        weights = attention_weights(layer.self_attn_layer_norm(hidden), layer.self_attn)
    assert weights.shape == (8, 31, 31)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(8, 31))


def test_all_stages_end_in_the_encoders_features(encoder, log_mel):
    stages = hidden_states(encoder, log_mel)
    features, _ = encoder(log_mel[None])
    assert [tuple(stage.shape) for stage in stages] == [(31, 512)] * 8
    torch.testing.assert_close(stages[-1], features[0], atol=1e-4 * float(features.abs().max()), rtol=0)
    assert not stages[-1].requires_grad


def test_multiplications_are_pytorchs(encoder, log_mel):
    with FlopCounterMode(display=False) as counter:
        hidden_states(encoder, log_mel[:60])
    assert 2 * sum(count_multiplications(30).values()) == counter.get_total_flops()


def test_multiplications_of_another_whisper():
    config = WhisperConfig(d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24, num_mel_bins=8)
    small = WhisperEncoder(modeling_whisper.WhisperEncoder(config))
    with FlopCounterMode(display=False) as counter:
        hidden_states(small, torch.zeros(10, 8))
    expected = count_multiplications(5, features=16, inner=24, layers=2, bins=8)
    assert 2 * sum(expected.values()) == counter.get_total_flops()


def test_self_similarity_is_cosine_without_the_mean_row():
    rows = torch.tensor([[10.0, 1.0], [10.0, -1.0], [13.0, 0.0], [7.0, 0.0]])  # mean row [10, 0]
    expected = torch.tensor([[1.0, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]])
    torch.testing.assert_close(self_similarity(rows), expected)
