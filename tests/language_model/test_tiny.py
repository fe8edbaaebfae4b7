"""The tiny language model: its tokenizer, its two text tasks, and a small run of its training from end to end."""

import copy
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from course_lib.data.grammar import draw_utterance, load_grammar, split_of
from course_lib.language_model import tiny
from course_lib.language_model.denoising import SILENCE, Corruption
from course_lib.language_model.prompt import IGNORE_INDEX, PROMPT, pad_rows
from course_lib.language_model.tiny import (
    END_OF_TEXT,
    PAD,
    DenoisingCheck,
    TextBatches,
    TextExample,
    TextTasks,
    TinyLMConfig,
    build_model,
    train_tiny_lm,
)

NO_NOISE = Corruption(blend=0.0, noise=0.0)


@pytest.fixture
def settings():
    return TinyLMConfig(batch_size=4, batches_per_epoch=3, dev_sentences=3, precision="fp32", num_threads=0)


@pytest.fixture
def tasks(tiny_llm):
    return TextTasks(copy.deepcopy(tiny_llm.model), tiny_llm.tokenizer, NO_NOISE, "fp32").eval()


def example(tokenizer, sentence="hvor er min hat", denoise=True):
    answer_ids = [*tokenizer(sentence).input_ids, tokenizer.eos_token_id]
    return TextExample(answer_ids, tokenizer(sentence).input_ids if denoise else None)


def test_the_prompt_is_six_tokens_as_in_qwen(tiny_llm):
    assert len(tiny_llm.tokenizer(PROMPT).input_ids) == 6
    assert tiny_llm.tokenizer.decode(tiny_llm.tokenizer(PROMPT).input_ids) == PROMPT


def test_the_tokenizer_gives_every_sentence_back_letter_by_letter(tiny_llm):
    rng = random.Random(0)
    sentences = [draw_utterance(rng, "train") for _ in range(300)]
    for sentence in [*sentences, *load_grammar().words, "rødgrød med fløde på æbleøen åh", "Ærø, Øster Å 7!", "日本"]:
        assert tiny_llm.tokenizer.decode(tiny_llm.tokenizer(sentence).input_ids) == sentence


def test_the_vocabulary_has_its_size_and_its_three_special_tokens_first(tiny_llm):
    tokenizer = tiny_llm.tokenizer
    assert len(tokenizer) == 512
    assert tokenizer.convert_tokens_to_ids([END_OF_TEXT, PAD, SILENCE]) == [0, 1, 2]
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END_OF_TEXT, PAD)
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert tokenizer("en hat").input_ids == tokenizer("en hat", add_special_tokens=False).input_ids


def test_the_model_is_a_qwen2_of_about_three_million_parameters(tiny_llm):
    model = build_model(tiny_llm.tokenizer)
    assert isinstance(model, Qwen2ForCausalLM)
    assert model.num_parameters() == 2_887_936
    assert (model.config.hidden_size, model.config.num_hidden_layers, model.config.vocab_size) == (256, 4, 512)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (model.config.eos_token_id, model.config.pad_token_id, model.config.bos_token_id) == (0, 1, None)


def test_a_denoising_row_is_corrupted_tokens_prompt_answer_and_only_the_answer_is_labelled(tiny_llm, tasks):
    model, tokenizer = tasks.llm, tiny_llm.tokenizer
    given = TextExample([70, 71, 0], [80, 81, 82, 83])
    (row,) = tasks.rows([given])
    expected = [80, 81, 82, 83, *tokenizer(PROMPT).input_ids, 70, 71, 0]
    assert torch.equal(row.embeddings, model.get_input_embeddings()(torch.tensor(expected)))
    assert row.labels.tolist() == [IGNORE_INDEX] * 10 + [70, 71, 0]


def test_a_continued_row_is_a_start_and_the_answer(tiny_llm, tasks):
    (row,) = tasks.rows([TextExample([70, 71, 0], None)])
    assert torch.equal(row.embeddings, tasks.llm.get_input_embeddings()(torch.tensor([0, 70, 71, 0])))
    assert row.labels.tolist() == [IGNORE_INDEX, 70, 71, 0]


def test_the_loss_of_a_mixed_batch_is_that_of_transformers_over_the_answer_tokens(tiny_llm, tasks):
    batch = [
        example(tiny_llm.tokenizer),
        example(tiny_llm.tokenizer, "øl", denoise=False),
        example(tiny_llm.tokenizer, "kom"),
    ]
    output = tasks(batch)
    padded = pad_rows(tasks.rows(batch), side="right")
    expected = tasks.llm(
        inputs_embeds=padded.embeddings, attention_mask=padded.attention_mask.long(), labels=padded.labels
    ).loss
    torch.testing.assert_close(output.loss, expected)
    assert output.label_tokens == sum(len(one.answer_ids) for one in batch)
    assert 0 <= output.correct_tokens <= output.label_tokens


def test_other_corrupted_tokens_change_the_loss_but_not_what_is_counted(tasks):
    first, second = tasks([TextExample([70, 71, 0], [80, 81])]), tasks([TextExample([70, 71, 0], [90, 91, 92])])
    assert first.label_tokens == second.label_tokens == 3
    assert first.loss != second.loss


def test_corrupted_tokens_get_noise_in_training_only_and_the_answer_never(tiny_llm):
    tasks = TextTasks(copy.deepcopy(tiny_llm.model), tiny_llm.tokenizer, Corruption(), "fp32")
    given = [TextExample([70, 71, 0], [80, 81, 82, 83]), TextExample([70, 0], []), TextExample([72, 0], None)]
    clean = tasks.eval().rows(given)
    noisy = tasks.train().rows(given)
    assert torch.equal(clean[0].embeddings[:4], tasks.llm.get_input_embeddings()(torch.tensor([80, 81, 82, 83])))
    assert not torch.isclose(noisy[0].embeddings[:4], clean[0].embeddings[:4]).all(dim=1).any()
    assert torch.equal(noisy[0].embeddings[4:], clean[0].embeddings[4:])
    assert torch.equal(noisy[1].embeddings, clean[1].embeddings)
    assert torch.equal(noisy[2].embeddings, clean[2].embeddings)


def test_blending_mixes_a_token_with_the_next_and_noise_is_at_most_its_sigma(tiny_llm):
    tokens = torch.eye(4, 64)
    blend = TextTasks(tiny_llm.model, tiny_llm.tokenizer, Corruption(blend=0.5, noise=0.0), "fp32")._add_noise(tokens)
    for index in range(3):
        share = blend[index, index + 1]
        assert 0 <= share <= 0.5
        assert blend[index, index] == pytest.approx(1 - float(share), abs=1e-6)
    assert torch.equal(blend[3], tokens[3])
    tokens = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    noisy = TextTasks(tiny_llm.model, tiny_llm.tokenizer, Corruption(blend=0.0, noise=0.9), "fp32")._add_noise(tokens)
    assert 0 < (noisy - tokens).std() < 0.95 * tokens.std()


def test_no_sentence_of_dev_or_test_is_in_the_text_that_the_model_reads(tiny_llm):
    settings = TinyLMConfig(batch_size=64, batches_per_epoch=12)
    texts = {
        tiny_llm.tokenizer.decode(one.answer_ids, skip_special_tokens=True)
        for batch in TextBatches(tiny_llm.tokenizer, settings)(0)
        for one in batch
    }
    assert len(texts) > 400
    assert {split_of(text) for text in texts} == {"train", "any"}


def test_batches_have_their_number_and_size_and_four_of_five_rows_are_denoised(tiny_llm):
    settings = TinyLMConfig(batch_size=16, batches_per_epoch=25)
    batches = [*TextBatches(tiny_llm.tokenizer, settings)(0)]
    assert [len(batch) for batch in batches] == [16] * 25
    rows = [one for batch in batches for one in batch]
    assert sum(one.corrupted_ids is not None for one in rows) / len(rows) == pytest.approx(0.8, abs=0.06)
    assert all(one.answer_ids[-1] == tiny_llm.tokenizer.eos_token_id for one in rows)
    spread = [max(map(TextExample.length, batch)) - min(map(TextExample.length, batch)) for batch in batches]
    assert sum(spread) / 25 < 12


def test_the_same_epoch_gives_the_same_batches_and_another_epoch_others(tiny_llm, settings):
    batches = TextBatches(tiny_llm.tokenizer, settings)
    assert [*batches(3)] == [*batches(3)]
    assert [*batches(3)] != [*batches(4)]


def test_the_check_scores_what_was_written_against_unseen_dev_sentences(tiny_llm, tasks, settings, monkeypatch):
    check = DenoisingCheck(tasks, tiny_llm.tokenizer, settings)
    assert len(check.sentences) == 3
    assert {split_of(sentence) for sentence in check.sentences} <= {"dev", "any"}
    right = [tiny_llm.tokenizer(sentence).input_ids for sentence in check.sentences]
    monkeypatch.setattr(tiny, "generate_ids", lambda *_, **__: right)
    assert check() == {"denoising_wer": 0.0}
    monkeypatch.setattr(tiny, "generate_ids", lambda *_, **__: [[] for _ in right])
    assert check() == {"denoising_wer": 1.0}


def test_the_check_gives_the_model_corrupted_tokens_and_prompt_but_no_answer(tiny_llm, tasks, settings):
    check = DenoisingCheck(tasks, tiny_llm.tokenizer, settings)
    for row, one in zip(tasks.rows(check.examples), check.examples, strict=True):
        assert len(row.embeddings) == len(one.corrupted_ids) + 6
        assert set(row.labels.tolist()) == {IGNORE_INDEX}


def test_a_few_steps_of_training_lower_the_loss_of_both_tasks(tiny_llm, tasks):
    torch.manual_seed(0)
    batches = [*TextBatches(tiny_llm.tokenizer, TinyLMConfig(batch_size=16, batches_per_epoch=30))(0)]
    rows = [one for batch in batches[-6:] for one in batch]
    denoised, continued = ([one for one in rows if (one.corrupted_ids is None) == bare] for bare in (False, True))

    @torch.no_grad()
    def losses():
        tasks.eval()
        return [float(tasks(task).loss) for task in (denoised, continued)]

    before, optimizer = losses(), torch.optim.AdamW(tasks.parameters(), lr=3e-3)
    for batch in batches[:-6]:
        tasks.train()(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(late < early - 0.5 for early, late in zip(before, losses(), strict=True)), (before, losses())


def test_a_whole_run_leaves_a_folder_that_transformers_loads(tmp_path):
    settings = TinyLMConfig(
        output_folder=str(tmp_path / "model"),
        run_folder=str(tmp_path / "run"),
        vocab_size=300,
        hidden_size=32,
        layers=1,
        tokenizer_sentences=150,
        batches_per_epoch=4,
        dev_sentences=2,
        batch_size=4,
        gradient_accumulation_steps=1,
        num_epochs=1,
        warmup_steps=1,
        validation_interval=4,
        monitor="denoising_wer",
        num_threads=0,
        precision="fp32",
    )
    assert train_tiny_lm(settings) == tmp_path / "model"
    model, tokenizer = (auto.from_pretrained(tmp_path / "model") for auto in (AutoModelForCausalLM, AutoTokenizer))
    assert isinstance(model, Qwen2ForCausalLM)
    assert model.dtype == torch.float16
    assert tokenizer.decode(tokenizer("på øen").input_ids) == "på øen"
    assert tokenizer(PROMPT).input_ids
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END_OF_TEXT, PAD)
    assert len(tokenizer) == model.config.vocab_size
    assert (tmp_path / "model" / "training_log.json").read_bytes() == (tmp_path / "run" / "training_log.json").read_bytes()
