"""Each kind of corruption does to the tokens what its name says, and none at all leaves the sentence whole."""

import random
from dataclasses import replace

import pytest

from course_lib.language_model.denoising import LETTERS, SILENCE, SOUND_ALIKE, Corruption, Corruptor

SENTENCE = "min bror spiser en varm suppe på øen"
NONE = Corruption(bpe_dropout=(0.0, 0.0), repeat=0.0, delete=0.0, substitute=0.0, join_words=0.0, silence=0.0, edge_silence=0)


@pytest.fixture
def corrupt(tiny_llm):
    """Corrupt SENTENCE in some of the ways, many times."""

    def run(times=200, **rates):
        corruptor = Corruptor(tiny_llm.tokenizer, replace(NONE, **rates), random.Random(0))
        return [corruptor.corrupt(SENTENCE) for _ in range(times)]

    return run


@pytest.fixture
def plain(tiny_llm):
    return tiny_llm.tokenizer(SENTENCE).input_ids


def test_without_any_corruption_the_tokens_are_the_sentence(corrupt, plain, tiny_llm):
    assert corrupt(times=1) == [plain]
    assert tiny_llm.tokenizer.decode(plain) == SENTENCE


def test_the_same_rng_gives_the_same_tokens(tiny_llm):
    def tokens(seed):
        corruptor = Corruptor(tiny_llm.tokenizer, Corruption(), random.Random(seed))
        return [corruptor.corrupt(SENTENCE) for _ in range(20)]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_dropout_cuts_at_other_places_but_loses_no_letter(corrupt, plain, tiny_llm):
    cut = corrupt(bpe_dropout=(0.5, 0.5))
    assert {tiny_llm.tokenizer.decode(tokens) for tokens in cut} == {SENTENCE}
    assert len({tuple(tokens) for tokens in cut}) > 100
    assert sum(map(len, cut)) > 200 * len(plain)


def test_full_dropout_leaves_single_letters_and_never_half_an_å(corrupt, tiny_llm):
    for tokens in corrupt(bpe_dropout=(1.0, 1.5)):
        assert len(tokens) == len(SENTENCE)
        assert tiny_llm.tokenizer.convert_ids_to_tokens(tokens[-2:]) == ["e", "n"]


def test_dropout_never_stays_in_the_tokenizer_that_cuts_the_answers(corrupt, plain, tiny_llm):
    corrupt(bpe_dropout=(1.0, 1.0))
    assert {tuple(tiny_llm.tokenizer(SENTENCE).input_ids) for _ in range(20)} == {tuple(plain)}


def test_tokens_are_repeated_in_their_place_four_times_at_most(corrupt, plain):
    for tokens in corrupt(repeat=1.0):
        left = [*tokens]
        for token in plain:
            repeats = 0
            while left and left[0] == token and repeats < 4:
                left.pop(0)
                repeats += 1
            assert repeats >= 1
        assert left == []
    mean = sum(map(len, corrupt(repeat=1.0))) / 200 / len(plain)
    assert 1.5 < mean < 2.5


def test_deleting_loses_about_a_third_of_its_highest_rate(corrupt, plain):
    kept = corrupt(times=400, delete=0.5)
    assert all(set(tokens) <= set(plain) for tokens in kept)
    assert 0.81 < sum(map(len, kept)) / 400 / len(plain) < 0.86


def test_substituting_changes_tokens_but_not_their_number(corrupt, plain):
    substituted = corrupt(times=400, substitute=0.5)
    assert {len(tokens) for tokens in substituted} == {len(plain)}
    changed = sum(a != b for tokens in substituted for a, b in zip(tokens, plain, strict=True)) / 400 / len(plain)
    assert 0.14 < changed < 0.2


def test_joining_words_takes_spaces_away_at_a_rate_of_the_sentences_own_and_no_letter(corrupt, tiny_llm):
    joined = [tiny_llm.tokenizer.decode(tokens) for tokens in corrupt(times=400, join_words=1.0)]
    assert {text.replace(" ", "") for text in joined} == {SENTENCE.replace(" ", "")}
    spaces = [text.count(" ") for text in joined]
    assert min(spaces) <= 1
    assert max(spaces) == SENTENCE.count(" ")


def test_substituted_letters_mostly_sound_alike(corrupt, tiny_llm):
    (letter,) = tiny_llm.tokenizer("o").input_ids
    corruptor = Corruptor(tiny_llm.tokenizer, NONE, random.Random(0))
    heard = [tiny_llm.tokenizer.decode([corruptor._substitute(letter)]) for _ in range(1_000)]
    share = sum(letter in ("å", "u") for letter in heard) / 1_000
    assert 0.65 < share < 0.8
    assert len({*heard}) > 100


def test_every_sound_alike_letter_is_a_danish_letter():
    assert {*"".join(SOUND_ALIKE)} <= {*LETTERS}
    assert all(len({*group}) == len(group) > 1 for group in SOUND_ALIKE)


def test_silence_comes_between_tokens_and_at_the_edges(corrupt, plain, tiny_llm):
    silence_id = tiny_llm.tokenizer.convert_tokens_to_ids(SILENCE)
    for tokens in corrupt(silence=1.0):
        assert [token for token in tokens if token != silence_id] == plain
        assert tokens[-1] != silence_id
    edges = corrupt(edge_silence=3)
    for tokens in edges:
        start = tokens.index(plain[0])
        assert tokens[:start] == [silence_id] * start
        assert tokens[start : start + len(plain)] == plain
        assert set(tokens[start + len(plain) :]) <= {silence_id}
    assert {tokens.index(plain[0]) for tokens in edges} == {0, 1, 2, 3}


def test_every_sentence_draws_its_own_rates_so_some_stay_easy(corrupt, plain):
    lengths = [len(tokens) for tokens in corrupt(repeat=0.9)]
    assert min(lengths) == len(plain)
    assert max(lengths) > 2 * len(plain)
