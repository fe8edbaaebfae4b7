"""The warm-up: CTC's loss as PyTorch has it, tokens that stay near text, and nothing trained but the projector."""

import itertools
import json

import pytest
import torch
from torch import nn

from course_lib.config import load_config, replace
from course_lib.data.batches import SpeechBatch
from course_lib.slam.ctc_warmup import PULL, CtcWarmup
from course_lib.systems import SlamConfig, load_slam
from course_lib.text.metrics import character_error_rate
from course_lib.train import train
from course_lib.training import trainer as trainer_module
from course_lib.training.trainer import Trainer


@pytest.fixture
def slam(tiny_run):
    return load_slam(tiny_run.folder)


@pytest.fixture
def warmup(slam):
    return CtcWarmup(slam)


def as_tokens(warmup, text):
    """Audio tokens that are exactly the embeddings of these letters."""
    return warmup.ctc_head.embeddings[[warmup.ctc_head.symbols.index(letter) for letter in text]]


def test_it_writes_what_the_tokens_spell(warmup, monkeypatch):
    monkeypatch.setattr(warmup.slam, "audio_tokens", lambda features: features)
    assert warmup.transcribe_features([as_tokens(warmup, "ål"), as_tokens(warmup, "rrødgrød")]) == ["ål", "rødgrød"]


def test_a_token_that_is_text_is_near_and_one_that_only_points_there_is_far(warmup):
    letters = as_tokens(warmup, "rødgrød")
    near, far = (
        float(warmup.distance_from_text([tokens[:3], tokens[3:]], warmup.ctc_head.log_probs([tokens[:3], tokens[3:]])))
        for tokens in (letters, 3 * letters)
    )
    assert near < 0.05
    assert far == pytest.approx(4, rel=0.2)


def test_padding_is_not_a_distance(warmup):
    short, long = as_tokens(warmup, "ø"), as_tokens(warmup, "blåbær")
    together = warmup.distance_from_text([short, long], warmup.ctc_head.log_probs([short, long]))
    alone = torch.stack([warmup.distance_from_text([clip], warmup.ctc_head.log_probs([clip])) for clip in (short, long)])
    assert float(together) == pytest.approx(float(alone @ torch.tensor([1 / 7, 6 / 7])), rel=1e-4)


def test_the_loss_is_that_of_torch_clip_by_clip_and_the_distance_from_text(warmup):
    features, texts = [torch.randn(60, 512), torch.randn(41, 512)], ["en blå bil", "idé nej"]
    ours = warmup.loss(SpeechBatch(features, texts))
    assert ours.label_tokens == sum(map(len, texts))
    tokens = [clip.detach() for clip in warmup.slam.audio_tokens(features)]
    losses = []
    for clip, text in zip(tokens, texts, strict=True):
        scores, _ = warmup.ctc_head.log_probs([clip])
        target = torch.tensor([warmup.ctc_head.symbols.index(letter) for letter in text.replace("é", "")])
        losses.append(nn.CTCLoss(blank=0)(scores[0], target, torch.tensor(len(scores[0])), torch.tensor(len(target))))
    distance = warmup.distance_from_text(tokens, warmup.ctc_head.log_probs(tokens))
    assert float(distance) > 0.1
    assert float(ours.loss) == pytest.approx(float(torch.stack(losses).mean() + PULL * distance), rel=1e-4)


def test_a_clip_too_short_for_its_text_teaches_no_letter(warmup):
    tokens = [clip.detach() for clip in warmup.slam.audio_tokens([torch.randn(6, 512)])]
    warmup.slam.audio_tokens = lambda features: tokens
    loss = warmup.loss(SpeechBatch([torch.randn(6, 512)], ["hvornår kommer toget"])).loss
    assert float(loss) == pytest.approx(float(PULL * warmup.distance_from_text(tokens, warmup.ctc_head.log_probs(tokens))))


def test_correct_are_the_letters_of_clips_without_a_mistake(warmup, monkeypatch):
    monkeypatch.setattr(warmup.slam, "audio_tokens", lambda features: features)
    batch = SpeechBatch([as_tokens(warmup, "hej"), as_tokens(warmup, "kattn")], ["hej", "katten"])
    output = warmup.loss(batch)
    assert (output.correct_tokens, output.label_tokens) == (3, 9)


def test_it_learns_to_spell_and_changes_nothing_but_the_projector(slam, tmp_path, tiny_run):
    torch.manual_seed(0)
    batch = SpeechBatch([torch.randn(40, 512), torch.randn(30, 512)], ["hej", "nul"])
    settings = replace(
        load_config(tiny_run.config, SlamConfig),
        num_epochs=250,
        lr=2e-3,
        validation_interval=250,
        warmup_steps=1,
        monitor="loss",
    )
    slam.projector.layers[0].p = 0.0  # on two clips of noise, dropout would only ask for more steps
    warmup = CtcWarmup(slam)
    before = {name: weight.clone() for name, weight in warmup.state_dict(keep_vars=False).items()}
    trainer = Trainer(warmup, lambda epoch: [batch], 1, lambda: {"loss": float(warmup.loss(batch).loss)}, settings, tmp_path)
    untrained = float(warmup.loss(batch).loss)
    trainer.fit()
    assert float(warmup.loss(batch).loss) < untrained / 20
    assert character_error_rate(batch.texts, warmup.transcribe_features(batch.features)) <= 0.34
    changed = {name for name, weight in warmup.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("slam.projector.") for name in changed)


@pytest.fixture(scope="module")
def warmed_run(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm") / "run"
    config = replace(load_config(tiny_run.config, SlamConfig), ctc_warmup_epochs=2, run_folder=str(folder))
    # A clock that moves on a second whenever it is asked: quick runs take 0.0 s by a real one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module.time, "monotonic", itertools.count(0.0).__next__)
        train(config)
    return config, folder


def test_training_spells_first_and_counts_the_minutes_of_both(warmed_run):
    _, folder = warmed_run
    spelling, reading = (json.loads((folder / name / "training_log.json").read_text()) for name in ("ctc_warmup", "."))
    assert [set(row) & {"cer", "wer", "loss"} for row in spelling] == [{"cer", "wer", "loss"}] * 2
    assert "token_accuracy_teacher_forced" not in spelling[0]
    assert reading[0]["seconds"] > spelling[-1]["seconds"]


def test_resume_goes_on_where_the_run_stopped_in_either_half(warmed_run):
    config, folder = warmed_run
    finished = (folder / "best.safetensors").read_bytes()
    logs = {path: path.read_text() for path in folder.rglob("training_log.json")}
    for name in ("training_state.pt", "best.safetensors", "training_log.json"):
        (folder / name).unlink()
    train(config, resume=True)
    assert (folder / "best.safetensors").read_bytes() == finished
    assert set(folder.rglob("training_log.json")) == set(logs)
    with pytest.raises(ValueError, match="nothing to resume"):
        train(replace(config, run_folder=str(folder.parent / "empty")), resume=True)
