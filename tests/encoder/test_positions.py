"""Both ways of telling positions, beside Whisper's and Qwen2's own code."""

import pytest
import torch
from transformers import Qwen2Config
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.whisper import modeling_whisper

from course_lib.encoder.positions import rotary_angles, rotate, sinusoidal_positions


@pytest.mark.parametrize(("frames", "size"), [(1, 2), (7, 4), (300, 64)])
def test_positions_turn_queries_and_keys_as_in_qwen2(frames, size):
    queries, keys = torch.randn(2, 2, 3, frames, size)
    rotary = modeling_qwen2.Qwen2RotaryEmbedding(Qwen2Config(hidden_size=3 * size, num_attention_heads=3))
    turns = rotary(queries, torch.arange(frames)[None])
    expected = modeling_qwen2.apply_rotary_pos_emb(queries, keys, *turns)
    angles = rotary_angles(frames, size)
    assert angles.shape == (frames, size // 2)
    for ours, theirs in zip((rotate(queries, angles), rotate(keys, angles)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)  # angles up to 300 in fp32


def test_turned_products_depend_on_the_distance_alone_and_lengths_stay():
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).double()
    angles = rotary_angles(50, 8).double()
    queries, keys = rotate(query.expand(50, 8), angles), rotate(key.expand(50, 8), angles)
    products = queries @ keys.T
    for distance in range(-20, 21):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)
    assert products[0].std() > 0.1
    torch.testing.assert_close(queries.norm(dim=1), query.norm().expand(50))
    assert torch.equal(queries[0], query)


@pytest.mark.parametrize(("positions", "features"), [(1500, 512), (7, 4), (1, 10)])
def test_positions_are_openais(positions, features):
    expected = modeling_whisper.sinusoids(positions, features)
    torch.testing.assert_close(sinusoidal_positions(positions, features), expected, atol=5e-4, rtol=0)  # sin(1499) in fp32


@pytest.mark.parametrize("features", [0, 2, 7])
def test_positions_need_an_even_number_of_columns(features):
    with pytest.raises(ValueError, match=f"{features} columns"):
        sinusoidal_positions(3, features)
