"""Batches and the validation that counts, on stores whose features say which clip they are."""

import pytest
import torch

from course_lib.data.batches import SpeechBatches, SpeechCheck, TrainedRecogniser
from course_lib.data.datasets import FeatureStore
from course_lib.training.step import StepOutput


class NumberedStore(FeatureStore):
    """Features, in memory, that say which clip they are; numbers start at `first`."""

    def __init__(self, counts, first=0):
        self.counts, self.first = counts, first

    def __getitem__(self, index):
        return torch.full((self.counts[index], 2), float(self.first + index))


COUNTS = [10 + (7 * index) % 23 for index in range(11)]
TEXTS = [f"text {index}" for index in range(11)]


def make_batches(**options):
    stores = [NumberedStore(COUNTS[:7]), NumberedStore(COUNTS[7:], first=7)]
    return SpeechBatches(stores, TEXTS, **{"batch_size": 4, "seed": 0} | options)


def indices_of(batch):
    return [int(clip[0, 0]) for clip in batch.features]


@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("keep", [None, [0, 2, 3, 6, 7, 10]])
def test_an_epoch_has_every_kept_clip_of_all_stores_once_beside_its_own_text(by_length, keep):
    batches = make_batches(by_length=by_length, keep=keep)
    epoch = list(batches(0))
    assert len(epoch) == len(batches) == (3 if keep is None else 2)
    assert sorted(index for batch in epoch for index in indices_of(batch)) == (keep or list(range(11)))
    for batch in epoch:
        assert batch.texts == [TEXTS[index] for index in indices_of(batch)]
        assert [len(clip) for clip in batch.features] == [COUNTS[index] for index in indices_of(batch)]


def test_the_same_epoch_gives_the_same_batches_and_another_one_or_another_seed_others():
    first, again, other = ([indices_of(batch) for batch in make_batches()(epoch)] for epoch in (3, 3, 4))
    assert first == again
    assert first != other
    assert first != [indices_of(batch) for batch in make_batches(seed=1)(3)]


def padded_share(batches, counts):
    return sum(len(batch.features) * max(map(len, batch.features)) for batch in batches) / sum(counts)


def test_clips_of_similar_length_come_together_unless_that_is_switched_off():
    counts = [10 + (37 * index) % 101 for index in range(100)]
    store, texts = NumberedStore(counts), [str(index) for index in range(100)]
    similar, mixed = (SpeechBatches([store], texts, 4, 0, by_length=choice) for choice in (True, False))
    assert padded_share(similar(0), counts) < 1.05
    assert padded_share(mixed(0), counts) > 1.25
    # kept clips are sorted by lengths of their own
    kept = SpeechBatches([store], texts, 4, 0, keep=list(range(50, 100)))
    assert padded_share(kept(0), counts[50:]) < 1.1


class Scripted(TrainedRecogniser):
    """Hears the number of a clip in its features, and answers and judges as it was told."""

    def __init__(self, answers, losses=(), labels=()):
        self.answers, self.losses, self.labels, self.asked = answers, losses, labels, []

    def transcribe_features(self, features):
        self.asked.append(len(features))
        return [self.answers[int(clip[0, 0])] for clip in features]

    def loss(self, batch):
        numbers = indices_of(batch)
        tokens = sum(self.labels[i] for i in numbers)
        mean = sum(self.losses[i] * self.labels[i] for i in numbers) / tokens
        return StepOutput(torch.tensor(mean), sum(i % 2 * self.labels[i] for i in numbers), tokens)


def test_every_text_meets_its_own_transcript_and_means_are_over_all_symbols():
    texts = ["nul nul nul", "en en", "to", "tre tre tre"]
    answers = ["nul nul", "en en", "to", "tre fire tre"]
    model = Scripted(answers, losses=[1.0, 2.0, 3.0, 4.0], labels=[11, 5, 2, 11])
    figures = SpeechCheck(model, NumberedStore([40, 10, 30, 20]), texts, batch_size=3)()
    assert list(figures) == ["wer", "cer", "loss", "token_accuracy_teacher_forced"]
    assert figures["wer"] == pytest.approx(2 / 9)
    # " nul" was not heard: 4 letters; tre → fire: t → fi
    assert figures["cer"] == pytest.approx((4 + 2) / 29)
    assert figures["loss"] == pytest.approx((11 + 10 + 6 + 44) / 29)
    assert figures["token_accuracy_teacher_forced"] == pytest.approx(16 / 29)
    assert model.asked == [3, 1]


def test_the_check_takes_clips_of_similar_length_together():
    seen = []

    class Watching(Scripted):
        def loss(self, batch):
            seen.append([len(clip) for clip in batch.features])
            return super().loss(batch)

    model = Watching(TEXTS, [1.0] * 11, [1] * 11)
    assert SpeechCheck(model, NumberedStore(COUNTS), TEXTS, batch_size=4)()["wer"] == 0.0
    assert [length for batch in seen for length in batch] == sorted(COUNTS)
    assert model.asked == [4, 4, 3]
