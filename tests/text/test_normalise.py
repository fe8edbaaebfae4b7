"""Danish numbers in words, and normalisation."""

import unicodedata

import pytest

from course_lib.text.normalise import normalise, number_to_words, ordinal_to_words


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "nul"),
        (1, "en"),
        (12, "tolv"),
        (16, "seksten"),
        (20, "tyve"),
        (21, "enogtyve"),
        (30, "tredive"),
        (42, "toogfyrre"),
        (50, "halvtreds"),
        (55, "femoghalvtreds"),
        (66, "seksogtres"),
        (77, "syvoghalvfjerds"),
        (88, "otteogfirs"),
        (99, "nioghalvfems"),
        (100, "hundrede"),
        (101, "hundrede og en"),
        (110, "hundrede og ti"),
        (125, "hundrede og femogtyve"),
        (200, "to hundrede"),
        (203, "to hundrede og tre"),
        (1000, "tusind"),
        (1001, "tusind og en"),
        (1100, "tusind et hundrede"),
        (2003, "to tusind og tre"),
        (21_000, "enogtyve tusind"),
        (101_000, "hundrede og et tusind"),
        (999_999, "ni hundrede og nioghalvfems tusind ni hundrede og nioghalvfems"),
        (1_000_000, "en million"),
        (2_001_100, "to millioner et tusind et hundrede"),
        (-5, "minus fem"),
    ],
)
def test_numbers_are_correct_danish(n, words):
    assert number_to_words(n) == words


def value_of(words: str) -> int:
    """Read the words back by rules of their own: the ones stand before "og" inside a word."""
    small = "nul en to tre fire fem seks syv otte ni ti elleve tolv tretten fjorten femten seksten sytten atten "
    small += "nitten"
    values = {word: i for i, word in enumerate(small.split())} | {"et": 1}
    tens = "tyve tredive fyrre halvtreds tres halvfjerds firs halvfems"
    values |= {word: 20 + 10 * i for i, word in enumerate(tens.split())}
    values |= {f"{one}og{ten}": values[one] + values[ten] for one in small.split()[1:10] for ten in tens.split()}
    total = part = 0
    for word in words.split():
        if word == "hundrede":
            part = max(part, 1) * 100
        elif word == "tusind":
            total, part = total + max(part, 1) * 1000, 0
        elif word != "og":
            part += values[word]
    return total + part


def test_every_number_reads_back():
    numbers = [*range(2200), *range(2200, 1_000_000, 997), 999_999]
    assert [value_of(number_to_words(n)) for n in numbers] == numbers


def test_a_number_too_large_is_refused_by_name():
    with pytest.raises(ValueError, match="1,000,000,000"):
        number_to_words(1_000_000_000)


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (1, "første"),
        (2, "anden"),
        (3, "tredje"),
        (6, "sjette"),
        (11, "ellevte"),
        (12, "tolvte"),
        (20, "tyvende"),
        (30, "tredivte"),
        (31, "enogtredivte"),
        (40, "fyrretyvende"),
        (75, "femoghalvfjerdsindstyvende"),
    ],
)
def test_ordinals_are_correct_danish(n, words):
    assert ordinal_to_words(n) == words


@pytest.mark.parametrize("n", [0, 100])
def test_an_ordinal_outside_1_to_99_is_refused(n):
    with pytest.raises(ValueError, match=f"{n}"):
        ordinal_to_words(n)


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("Hej, hvordan har du det?", "hej hvordan har du det"),
        ("  to\tord \n her ", "to ord her"),
        ("Æblerne på Øen ÅBNER", "æblerne på øen åbner"),
        ("idé, allé, Müller", "ide alle muller"),
        ("Malmö og Gävle", "malmø og gævle"),
        ("Aarhus og Århus", "aarhus og århus"),
        ("e-mail, tv-avis, og/eller", "e mail tv avis og eller"),
        ("tv'et og cd’er", "tvet og cder"),
        ("ind- og udland – måske", "ind og udland måske"),
        ("20 %", "tyve procent"),
        ("20%", "tyve procent"),
        ("5km", "fem km"),
        ("3,5", "tre komma fem"),
        ("3,05", "tre komma nul fem"),
        ("3,14", "tre komma fjorten"),
        ("3,142", "tre komma en fire to"),
        ("1.000", "tusind"),
        ("1.250.000,5", "en million to hundrede og halvtreds tusind komma fem"),
        ("1, 2, 3", "en to tre"),
        ("i 1999", "i tusind ni hundrede og nioghalvfems"),
        ("90'erne og 1930'erne", "halvfemserne og tusind ni hundrede og trediverne"),
        ("kl. 8:30", "kl otte tredive"),
        ("kl. 8.30", "kl otte tredive"),
        ("kl. 20:05", "kl tyve nul fem"),
        ("-5 grader", "minus fem grader"),
        ("5-10 dage", "fem ti dage"),
        ("den 3. maj", "den tredje maj"),
        ("Vi er 3. Kom nu.", "vi er tre kom nu"),
        ("Nummer 3.", "nummer tre"),
        ("100. gang", "hundrede gang"),
        ("24.12.2020", "fireogtyve tolv to tusind og tyve"),
        ("007", "nul nul syv"),
        ("12345678901", "en to tre fire fem seks syv otte ni nul en"),
        ("2½ år", "to en halv år"),
        ("１.０００ ０７", "tusind nul syv"),
        ("!?…", ""),
        ("", ""),
    ],
)
def test_normalise(written, normalised):
    assert normalise(written) == normalised
    assert normalise(normalised) == normalised, "the result must normalise to itself"


def test_composed_and_decomposed_letters_meet():
    word = "blåbærgrød på ø"
    assert normalise(unicodedata.normalize("NFD", word)) == word


def test_aa_folds_only_when_asked():
    assert normalise("Aabenraa") == "aabenraa"
    assert normalise("Aabenraa", fold_aa=True) == normalise("Åbenrå", fold_aa=True) == "åbenrå"
