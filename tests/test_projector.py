"""The projector: the guide's sizes, neighbours side by side, and a tail that is dropped."""

import pytest
import torch
from torch import nn

from course_lib.projector import ConcatProjector


def parameter_count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_whisper_base_into_qwen_3b_has_the_parameters_that_the_docstring_says():
    projector = ConcatProjector(512, 2048)
    assert parameter_count(projector) == 2_361_856 == 2560 * 512 + 512 + 512 * 2048 + 2048
    assert "2,361,856" in ConcatProjector.__doc__


def test_whisper_base_into_the_tiny_model_has_the_parameters_that_the_docstring_says():
    count = parameter_count(ConcatProjector(512, 256, k=2, hidden_dim=1024))
    assert count == 1024 * 1024 + 1024 + 1024 * 256 + 256
    assert f"{count:,}" in ConcatProjector.__doc__


def test_five_seconds_become_fifty_audio_tokens():
    assert ConcatProjector(512, 2048)(torch.randn(1, 250, 512)).shape == (1, 50, 2048)


def test_each_token_is_the_two_layers_over_five_neighbours_in_order():
    projector = ConcatProjector(4, 6, k=5, hidden_dim=8)
    first, second = (layer for layer in projector.layers if isinstance(layer, nn.Linear))
    features = torch.randn(2, 15, 4)
    tokens = projector(features)
    for token in range(3):
        neighbours = torch.cat([features[:, 5 * token + i] for i in range(5)], dim=1)
        torch.testing.assert_close(tokens[:, token], second(torch.relu(first(neighbours))))


@pytest.mark.parametrize(("frames", "tokens"), [(4, 0), (5, 1), (9, 1), (10, 2), (1500, 300)])
def test_a_tail_of_fewer_than_k_frames_is_dropped(frames, tokens):
    projector = ConcatProjector(2, 3)
    features = torch.randn(1, frames, 2)
    output = projector(features)
    assert output.shape == (1, tokens, 3)
    assert torch.equal(output, projector(features[:, : tokens * 5]))


def test_dropout_blanks_features_while_training_only():
    torch.manual_seed(0)
    projector = ConcatProjector(4, 3, dropout=0.5)
    features = torch.randn(1, 50, 4)
    assert not torch.equal(projector.train()(features), projector(features))
    assert torch.equal(projector.eval()(features), projector(features))
