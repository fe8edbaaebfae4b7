"""Both vocabularies: characters, and pieces of words in fewer symbols than letters; every sentence comes back."""

import csv

import pytest

from course_lib.files import SHIPPED_CSV
from course_lib.text.normalise import normalise
from course_lib.text.vocabulary import WORD_START, CharVocabulary, SubwordVocabulary


def test_a_normalised_text_fits_the_vocabulary():
    text = normalise("Zoë købte 3,5 kg æbler à 12 kr. hos Ørsteds på Allégade 7!")
    vocabulary = CharVocabulary()
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_the_vocabulary_has_blank_space_and_29_letters():
    vocabulary = CharVocabulary()
    assert len(vocabulary) == 31
    assert vocabulary.symbols[vocabulary.blank_id] == "_"
    assert vocabulary.encode(" azæøå") == [1, 2, 27, 28, 29, 30]


def test_decode_leaves_blanks_out_and_keeps_repeats():
    assert CharVocabulary().decode([0, 9, 0, 6, 13, 13, 0, 16]) == "hello"


def test_an_unknown_character_is_named_with_its_text():
    with pytest.raises(ValueError, match=r"'é' \(LATIN SMALL LETTER E WITH ACUTE\), '3'.*\n.*'idé nr 3'"):
        CharVocabulary().encode("idé nr 3")


@pytest.mark.parametrize("ids", [[31], [-1]])
def test_an_id_outside_the_vocabulary_is_refused(ids):
    with pytest.raises(ValueError, match="from 0 to 30"):
        CharVocabulary().decode(ids)


@pytest.mark.parametrize("characters", ["aba", "ab_"])
def test_a_vocabulary_of_doubtful_characters_is_refused(characters):
    with pytest.raises(ValueError, match=characters):
        CharVocabulary(characters)


@pytest.fixture(scope="module")
def sentences():
    with SHIPPED_CSV.open(encoding="utf-8", newline="") as file:
        return [normalise(row["transcription"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def vocabulary(sentences):
    return SubwordVocabulary.train(sentences, size=100)


def test_every_shipped_sentence_comes_back(vocabulary, sentences):
    assert len(sentences) == 60
    assert [vocabulary.decode(vocabulary.encode(sentence)) for sentence in sentences] == sentences


def test_there_are_fewer_pieces_than_letters_and_none_is_the_blank(vocabulary, sentences):
    pieces = [index for sentence in sentences for index in vocabulary.encode(sentence)]
    letters = sum(len(CharVocabulary().encode(sentence)) for sentence in sentences)
    assert len(pieces) < 0.7 * letters
    assert vocabulary.blank_id == 0
    assert vocabulary.symbols[0] == "_"
    assert 1 <= min(pieces) <= max(pieces) < len(vocabulary)


def test_ids_and_symbols_belong_together(vocabulary):
    assert [vocabulary.symbols[index] for index in vocabulary.encode("xzq")] == [WORD_START, "x", "z", "q"]
    assert len(set(vocabulary.symbols)) == len(vocabulary.symbols) == len(vocabulary)


@pytest.mark.parametrize("size", [40, 64, 100])
def test_the_size_is_respected(sentences, size):
    vocabulary = SubwordVocabulary.train(sentences, size)
    assert len(vocabulary) == len(vocabulary.symbols) == size


def test_letters_that_no_sentence_has_can_be_written_all_the_same():
    vocabulary = SubwordVocabulary.train(["hej hej"], size=40)
    text = "xylofon på zoo quiz æblegrød w c"
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_no_piece_spans_two_words(vocabulary):
    assert all(WORD_START not in piece[1:] for piece in vocabulary.symbols)


def test_frequent_neighbours_become_one_piece():
    vocabulary = SubwordVocabulary.train(["hej hej hej hej ko"], size=34)  # blank, word start, 29 letters: 3 merges left
    assert {"hej", WORD_START + "hej"} & set(vocabulary.symbols)
    assert len(vocabulary.encode("hej")) == 1
    assert len(vocabulary.encode("ko")) == 3


def test_the_same_texts_give_the_same_pieces_again(sentences, vocabulary):
    """A resumed run trains its vocabulary anew: other ids would make nonsense of its weights."""
    assert all(SubwordVocabulary.train(sentences, 100).symbols == vocabulary.symbols for _ in range(3))


def test_it_comes_back_from_its_file(vocabulary, sentences, tmp_path):
    vocabulary.save(tmp_path / "subwords.json")
    loaded = SubwordVocabulary.load(tmp_path / "subwords.json")
    assert loaded.symbols == vocabulary.symbols
    assert [loaded.encode(sentence) for sentence in sentences] == [vocabulary.encode(sentence) for sentence in sentences]


@pytest.mark.parametrize(
    ("text", "named"), [("idé på café", "é"), ("Hej", "H"), ("3 køer", "3"), ("ja▁nej", "▁"), ("a_b", "_")]
)
def test_letters_that_no_piece_has_are_refused_by_name(vocabulary, text, named):
    with pytest.raises(ValueError, match=r"no piece has \['.'\]") as refusal:
        vocabulary.encode(text)
    assert repr([named]) in str(refusal.value)
    assert repr(text) in str(refusal.value)
    assert "normalise()" in str(refusal.value)


def test_blanks_spell_nothing_and_repeats_are_kept(vocabulary):
    x, start = vocabulary.symbols.index("x"), vocabulary.symbols.index(WORD_START)
    assert vocabulary.decode([0, x, 0, x, x, 0]) == "xxx"
    assert vocabulary.decode([start, x, start, x]) == "x x"
    # only the space that encoding put before the first word is taken away
    assert vocabulary.decode([start, start, x, start]) == " x "
    assert vocabulary.decode([]) == vocabulary.decode([0, 0]) == vocabulary.decode([start]) == ""


def test_nothing_is_spelled_with_nothing(vocabulary):
    assert vocabulary.encode("") == []
