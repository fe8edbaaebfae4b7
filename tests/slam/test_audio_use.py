"""The probe: three sounds, one measure; a model that listens, one that does not, and one that only counts frames."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.data.batches import SpeechBatch
from course_lib.slam.audio_use import AudioUse, another_clip, audio_use, deaf_output, mean_loss
from course_lib.slam.model import SlamASR
from course_lib.slam.projector import ConcatProjector
from course_lib.training.step import StepOutput

TEXTS = ["en", "to tre", "fire", "fem seks syv"]
FEATURES = [torch.full((length, 2), float(index)) for index, length in enumerate((4, 6, 4, 9))]
SILENCE = [torch.full_like(clip, -1.0) for clip in FEATURES]


class Scripted(nn.Module):
    """Loss 1 for the clip's own sound, 3 for another's, 2 for silence; a label a letter."""

    def __init__(self, listens=True):
        super().__init__()
        self.listens, self.seen = listens, []

    def loss(self, batch):
        self.seen.append((self.training, len(batch.texts)))
        losses, labels = [], [len(text) for text in batch.texts]
        for clip, text in zip(batch.features, batch.texts, strict=True):
            heard = float(clip[0, 0])
            losses.append(1.0 if heard == TEXTS.index(text) or not self.listens else 2.0 if heard < 0 else 3.0)
        total = sum(loss * count for loss, count in zip(losses, labels, strict=True))
        return StepOutput(torch.tensor(total / sum(labels)), 0, sum(labels))


def test_each_sound_has_its_loss():
    assert audio_use(Scripted(), FEATURES, TEXTS, SILENCE) == AudioUse(right=1.0, another=3.0, silent=2.0)


def test_a_model_that_does_not_listen_has_one_loss_for_all():
    use = audio_use(Scripted(listens=False), FEATURES, TEXTS, SILENCE)
    assert use.right == use.another == use.silent
    assert use.ratio == 1.0


def test_the_mean_is_over_label_tokens_and_not_over_batches():
    mixed = [FEATURES[0], FEATURES[0], FEATURES[2], FEATURES[3]]  # "to tre", six labels, is heard as another clip
    expected = (2 * 1 + 6 * 3 + 4 * 1 + 12 * 1) / 24
    for batch_size in (1, 3, 4, 32):
        assert mean_loss(Scripted(), mixed, TEXTS, batch_size) == pytest.approx(expected)


def test_it_measures_in_evaluation_mode_and_puts_the_mode_back():
    model = Scripted().train()
    mean_loss(model, FEATURES, TEXTS, batch_size=3)
    assert model.seen == [(False, 3), (False, 1)]
    assert model.training
    model.eval()
    mean_loss(model, FEATURES, TEXTS)
    assert not model.training


@pytest.mark.parametrize(
    ("texts", "others"),
    [
        (["ja", "nej"], [1, 0]),
        (["ja", "ja", "nej"], [2, 2, 0]),
        (["ja", "nej", "ja"], [1, 2, 1]),
        (["a", "b", "c", "c"], [1, 2, 0, 0]),
    ],
)
def test_another_clip_never_says_the_same(texts, others):
    assert another_clip(texts) == others
    assert all(texts[index] != texts[other] for index, other in enumerate(others))


def test_there_must_be_something_else_to_hear():
    with pytest.raises(ValueError, match="every clip says the same"):
        another_clip(["ja", "ja"])


def test_every_clip_needs_its_text_and_its_silence():
    with pytest.raises(ValueError, match="4 clips, 4 texts and 3 silences"):
        audio_use(Scripted(), FEATURES, TEXTS, SILENCE[:3])


@pytest.fixture
def slam(tiny_llm, encoder):
    # SlamASR freezes its language model; the fixture belongs to other tests too.
    llm, tokenizer = copy.deepcopy(tiny_llm.model), tiny_llm.tokenizer
    with torch.random.fork_rng():
        torch.manual_seed(0)
        projector = ConcatProjector(512, 64, k=2, hidden_dim=8, dropout=0.5)
    return SlamASR(encoder, projector, llm, tokenizer, precision="fp32")


def test_of_a_recogniser_it_is_the_loss_of_its_batches(slam):
    generator = torch.Generator().manual_seed(3)
    features = [torch.randn(length, 512, generator=generator) for length in (20, 31, 24, 40)]
    silence = [torch.zeros_like(clip) for clip in features]
    slam.train()
    use = audio_use(slam, features, TEXTS, silence, batch_size=2)
    assert slam.training
    slam.eval()
    following = [features[index] for index in (1, 2, 3, 0)]
    expected = [float(slam.loss(SpeechBatch(sound, TEXTS)).loss) for sound in (features, following, silence)]
    assert tuple(use) == pytest.approx(expected, rel=1e-4)


def test_the_deaf_level_is_the_language_model_reading_on_from_its_start(slam):
    output = deaf_output(slam, TEXTS)
    losses, right = [], 0
    for text in TEXTS:
        ids = torch.cat([torch.tensor([slam.tokenizer.eos_token_id]), slam.answer_ids(text)])
        with torch.no_grad():
            logits = slam.llm(input_ids=ids[None]).logits[0, :-1]
        losses.append(F.cross_entropy(logits, ids[1:], reduction="sum"))
        right += int((logits.argmax(dim=-1) == ids[1:]).sum())
    assert output.label_tokens == sum(len(slam.answer_ids(text)) for text in TEXTS)
    assert output.correct_tokens == right
    assert float(output.loss) == pytest.approx(float(sum(losses)) / output.label_tokens, rel=1e-4)
    assert not output.loss.requires_grad
