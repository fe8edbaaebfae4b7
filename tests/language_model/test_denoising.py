"""Each kind of damage does to the pieces what its name says, and none at all leaves the sentence whole."""

import random
from dataclasses import replace

import pytest

from course_lib.language_model.denoising import LETTERS, SILENCE, SOUND_ALIKE, Corruption, Corruptor

SENTENCE = "min bror spiser en varm suppe på øen"
NONE = Corruption(dropout=(0.0, 0.0), double=0.0, drop=0.0, swap=0.0, glue=0.0, silence=0.0, edge=0)


@pytest.fixture
def scramble(tiny_llm):
    """Corruption SENTENCE with some of the damages, many times."""

    def run(times=200, **damages):
        scrambler = Corruptor(tiny_llm.tokenizer, replace(NONE, **damages), random.Random(0))
        return [scrambler.pieces(SENTENCE) for _ in range(times)]

    return run


@pytest.fixture
def plain(tiny_llm):
    return tiny_llm.tokenizer(SENTENCE).input_ids


def test_without_any_damage_the_pieces_are_the_sentence(scramble, plain, tiny_llm):
    assert scramble(times=1) == [plain]
    assert tiny_llm.tokenizer.decode(plain) == SENTENCE


def test_the_same_rng_gives_the_same_pieces(tiny_llm):
    def pieces(seed):
        scrambler = Corruptor(tiny_llm.tokenizer, Corruption(), random.Random(seed))
        return [scrambler.pieces(SENTENCE) for _ in range(20)]

    assert pieces(1) == pieces(1)
    assert pieces(1) != pieces(2)


def test_dropout_cuts_at_other_places_but_loses_no_letter(scramble, plain, tiny_llm):
    cut = scramble(dropout=(0.5, 0.5))
    assert {tiny_llm.tokenizer.decode(pieces) for pieces in cut} == {SENTENCE}
    assert len({tuple(pieces) for pieces in cut}) > 100
    assert sum(map(len, cut)) > 200 * len(plain)


def test_full_dropout_leaves_single_letters_and_never_half_an_å(scramble, tiny_llm):
    for pieces in scramble(dropout=(1.0, 1.5)):
        assert len(pieces) == len(SENTENCE)
        assert tiny_llm.tokenizer.convert_ids_to_tokens(pieces[-2:]) == ["e", "n"]


def test_dropout_never_stays_in_the_tokenizer_that_cuts_the_answers(scramble, plain, tiny_llm):
    scramble(dropout=(1.0, 1.0))
    assert {tuple(tiny_llm.tokenizer(SENTENCE).input_ids) for _ in range(20)} == {tuple(plain)}


def test_doubling_repeats_pieces_in_their_place_four_times_at_most(scramble, plain):
    for pieces in scramble(double=1.0):
        left = [*pieces]
        for piece in plain:
            repeats = 0
            while left and left[0] == piece and repeats < 4:
                left.pop(0)
                repeats += 1
            assert repeats >= 1
        assert left == []
    mean = sum(map(len, scramble(double=1.0))) / 200 / len(plain)
    assert 1.5 < mean < 2.5


def test_dropping_loses_about_a_third_of_its_highest_rate(scramble, plain):
    kept = scramble(times=400, drop=0.5)
    assert all(set(pieces) <= set(plain) for pieces in kept)
    assert 0.81 < sum(map(len, kept)) / 400 / len(plain) < 0.86


def test_swapping_changes_pieces_but_not_their_number(scramble, plain):
    swapped = scramble(times=400, swap=0.5)
    assert {len(pieces) for pieces in swapped} == {len(plain)}
    changed = sum(a != b for pieces in swapped for a, b in zip(pieces, plain, strict=True)) / 400 / len(plain)
    assert 0.14 < changed < 0.2


def test_glueing_takes_spaces_away_at_a_rate_of_the_sentences_own_and_no_letter(scramble, tiny_llm):
    glued = [tiny_llm.tokenizer.decode(pieces) for pieces in scramble(times=400, glue=1.0)]
    assert {text.replace(" ", "") for text in glued} == {SENTENCE.replace(" ", "")}
    spaces = [text.count(" ") for text in glued]
    assert min(spaces) <= 1
    assert max(spaces) == SENTENCE.count(" ")


def test_misheard_letters_mostly_sound_alike(scramble, tiny_llm):
    (letter,) = tiny_llm.tokenizer("o").input_ids
    scrambler = Corruptor(tiny_llm.tokenizer, NONE, random.Random(0))
    heard = [tiny_llm.tokenizer.decode([scrambler._mishear(letter)]) for _ in range(1_000)]
    share = sum(letter in ("å", "u") for letter in heard) / 1_000
    assert 0.65 < share < 0.8
    assert len({*heard}) > 100


def test_every_sound_alike_letter_is_a_danish_letter():
    assert {*"".join(SOUND_ALIKE)} <= {*LETTERS}
    assert all(len({*group}) == len(group) > 1 for group in SOUND_ALIKE)


def test_silence_comes_between_pieces_and_at_the_edges(scramble, plain, tiny_llm):
    silence_id = tiny_llm.tokenizer.convert_tokens_to_ids(SILENCE)
    for pieces in scramble(silence=1.0):
        assert [piece for piece in pieces if piece != silence_id] == plain
        assert pieces[-1] != silence_id
    edges = scramble(edge=3)
    for pieces in edges:
        start = pieces.index(plain[0])
        assert pieces[:start] == [silence_id] * start
        assert pieces[start : start + len(plain)] == plain
        assert set(pieces[start + len(plain) :]) <= {silence_id}
    assert {pieces.index(plain[0]) for pieces in edges} == {0, 1, 2, 3}


def test_every_sentence_draws_its_own_rates_so_some_stay_easy(scramble, plain):
    lengths = [len(pieces) for pieces in scramble(double=0.9)]
    assert min(lengths) == len(plain)
    assert max(lengths) > 2 * len(plain)
