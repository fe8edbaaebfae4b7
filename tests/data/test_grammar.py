"""The grammar speaks Danish: what it draws is normalised, agrees in gender and number, and stays in its split."""

import random
import re
import unicodedata
from collections import Counter

import pytest

from course_lib.data import grammar
from course_lib.data.grammar import Grammar, WordClass, draw_utterance, load_grammar, split_of
from course_lib.text.normalise import DANISH_CHARACTERS, normalise

NOT_NOUNS = ("pronoun",)
ADJECTIVES = ("colour", "quality", "look", "mood")


@pytest.fixture(scope="module")
def drawn():
    """Thousands of utterances; fewer of dev and test, for each of theirs is one of thirty that the grammar makes."""
    rng = random.Random("test_grammar")
    return {split: [draw_utterance(rng, split) for _ in range(n)] for split, n in SIZES.items()}


SIZES = {"train": 4_000, "dev": 80, "test": 120}


def columns(*names):
    """Pairs of two columns over all noun classes that have both: columns("one", "article") maps noun → article."""
    classes = [c for name, c in load_grammar().classes.items() if {"article", *names} <= {*c.forms} and name not in NOT_NOUNS]
    return {tuple(row[c.forms.index(name)] for name in names) for c in classes for row in c.rows}


def adjective_forms(class_names):
    forms = {"en": set(), "et": set(), "many": set()}
    for name in class_names:
        for row in load_grammar().classes[name].rows:
            for gender, form in zip(load_grammar().classes[name].forms, row, strict=True):
                forms[gender].add(form)
    return forms


class Agreement:
    """Finds what does not agree in a sentence: articles, adjectives and possessives with their noun."""

    def __init__(self):
        self.gender = dict(columns("one", "article"))
        self.plurals = {many for (many,) in columns("many")}
        self.allowed = {noun: {gender} for noun, gender in [*self.gender.items(), *columns("the", "article")]}
        for plural in self.plurals:  # "sko" is one shoe or two
            self.allowed.setdefault(plural, set()).add("many")
        self.adjectives, self.mine = adjective_forms(ADJECTIVES), adjective_forms(["my"])
        self.any_adjective, self.any_mine = (set.union(*forms.values()) for forms in (self.adjectives, self.mine))

    def fits(self, forms, word, noun):
        return any(word in forms[gender] for gender in self.allowed[noun])

    def mistakes(self, sentence):
        words = ["", *sentence.split(), "", ""]
        for before, word, after, last in zip(words, words[1:], words[2:], words[3:], strict=False):
            described = word in ("en", "et") and after in self.any_adjective and last in self.gender
            if described and (self.gender[last] != word or after not in self.adjectives[word]):
                yield f"{word} {after} {last}"
            if word in ("en", "et") and not described and self.gender.get(after, word) != word:
                yield f"{word} {after}"
            if word in self.any_mine and after in self.allowed and not self.fits(self.mine, word, after):
                yield f"{word} {after}"
            if word in self.any_adjective and after in self.plurals and not self.fits(self.adjectives, word, after):
                yield f"{word} {after}"
            # "hendes mor og bjørn er trætte": two people, and Bjørn is no bear
            verb = after == "er" and last in self.any_adjective and word in self.allowed and before != "og"
            if verb and not self.fits(self.adjectives, last, word):
                yield f"{word} er {last}"


def test_there_are_1449_different_words():
    words = load_grammar().words
    assert len(words) == len({*words}) >= 600
    assert len(words) == 1_449, f"the grammar has {len(words):,} words now: update the figure in the texts and here"
    assert all(word == normalise(word) and " " not in word for word in words)
    assert {"en", "et", "køkkenet", "nioghalvfems", "hundrede", "børst"} <= {*words}
    assert not {"many", "article", "one"} & {*words}


def test_every_word_can_be_drawn_alone(monkeypatch):
    full = load_grammar()
    monkeypatch.setattr(
        grammar, "load_grammar", lambda: Grammar(full.classes, {"utterance": [(1.0, "{any_word}")]}, full.words)
    )
    rng = random.Random(0)
    alone = {draw_utterance(rng, "train") for _ in range(3_000)}
    assert alone <= {*full.words}
    assert len(alone) > 0.8 * len(full.words)


def test_every_utterance_is_lower_case_nfc_and_its_own_normalised_form(drawn):
    for sentence in {*drawn["train"], *drawn["dev"], *drawn["test"]}:
        assert sentence == normalise(sentence) == unicodedata.normalize("NFC", sentence).lower()
        assert {*sentence} <= {*DANISH_CHARACTERS}
        assert 1 <= len(sentence.split()) <= 16, sentence


def test_articles_adjectives_and_possessives_agree_with_their_noun(drawn):
    agreement = Agreement()
    mistakes = {sentence: found for s in SIZES for sentence in drawn[s] if (found := [*agreement.mistakes(sentence)])}
    assert mistakes == {}


@pytest.mark.parametrize(
    "wrong",
    [
        *("jeg spiser en æble", "et bil", "en rødt hat", "et rødt hat", "en rødt brød", "et rød slips"),
        *("min hus er stort", "vores hat er rødt", "slipset er brun", "rød hatte", "mit bøger", "børn er træt"),
    ],
)
def test_the_agreement_check_itself_sees_mistakes(wrong):
    assert [*Agreement().mistakes(wrong)]


def test_the_check_has_met_articles_of_both_genders(drawn):
    text = " | ".join(drawn["train"])
    met = Counter(re.findall(r"\b(en|et|er|min|mit|mine) \w", text))
    assert all(met[word] > 5 for word in ("en", "et", "er", "min", "mit", "mine")), met


def test_a_noun_has_one_gender_whatever_its_class():
    for pairs in (columns("one", "article"), columns("the", "article")):
        assert len(pairs) == len({noun for noun, _ in pairs})
    assert {article for _, article in columns("one", "article")} == {"en", "et"}


NEUTER = set(
    "løg æble jordbær æg rundstykke brød barn øje øre ben knæ hoved hjerte slips bælte tørklæde ur billede brev glas "
    "håndklæde kort bord skab tæppe hus vindue køkken værelse tag får bibliotek museum hospital hotel marked slot torv "
    "træ bjerg blad tog fly skib forår efterår".split()
)
"""The et-words, written down once more, so that a slip of the lexicon is seen."""


def test_the_lexicon_has_the_genders_that_a_danish_dictionary_has():
    assert {noun for noun, article in columns("one", "article") if article == "et"} == NEUTER
    for form, article in columns("the", "article"):
        assert form.endswith("n" if article == "en" else "t"), form


def test_the_neuter_of_an_adjective_adds_a_t_unless_it_is_one_of_these():
    unchanged = set("lille lilla orange glad bange kort flot let træt sort snavset forsinket".split())
    for name in ADJECTIVES:
        for common, neuter, many in load_grammar().classes[name].rows:
            assert neuter == (common if common in unchanged else common + "t")
            assert many[0] == common[0] or (common, many) == ("lille", "små")


def test_which_split_follows_from_the_letters_alone():
    assert {split_of("hvor er min hat") for _ in range(5)} == {"train"}
    assert split_of("hat") == "any"
    assert split_of("jeg drikker kaffe") == split_of("jeg drikker " + "kaffe")
    sentences = [f"klokken er {number}" for number in range(10_000)]
    shares = Counter(map(split_of, sentences))
    assert 250 < shares["dev"] < 350
    assert 430 < shares["test"] < 570
    assert shares["train"] == 10_000 - shares["dev"] - shares["test"]


def test_no_utterance_of_two_words_or_more_stands_in_two_splits(drawn):
    longer = {split: {s for s in drawn[split] if " " in s} for split in SIZES}
    assert all(len(sentences) > 40 for sentences in longer.values())
    assert all(split_of(sentence) == split for split in SIZES for sentence in longer[split])
    assert not longer["train"] & longer["test"]
    assert not longer["train"] & longer["dev"]
    assert not longer["dev"] & longer["test"]


def test_the_same_seed_draws_the_same_sentences():
    first, second, other = (random.Random(seed) for seed in (1, 1, 2))
    expected = [draw_utterance(first, "train") for _ in range(50)]
    assert [draw_utterance(second, "train") for _ in range(50)] == expected
    assert [draw_utterance(other, "train") for _ in range(50)] != expected


def test_single_words_are_as_rare_in_dev_and_test_as_they_should_be(drawn):
    for split in ("dev", "test"):
        share = sum(" " not in sentence for sentence in drawn[split]) / len(drawn[split])
        assert share == pytest.approx(grammar.SINGLE_WORD_SHARE * 0.9, abs=0.1)


def test_a_second_draw_differs_from_the_first(drawn):
    trips = [re.fullmatch(r".* fra (\w+) til (\w+)", s) for split in SIZES for s in drawn[split]]
    trips = [trip for trip in trips if trip]
    assert len(trips) > 3
    assert all(trip[1] != trip[2] for trip in trips)


def test_numbers_are_drawn_small_and_large():
    rng = random.Random(0)
    numbers = Counter(grammar._draw_number(rng, 999) for _ in range(3_000))
    assert {"to", "tyve", "enogtyve", "hundrede"} <= {*numbers}
    assert any(number.startswith("ni hundrede") for number in numbers)
    assert not {"nul", "en"} & {*numbers}
    small = {grammar._draw_number(rng, 99) for _ in range(3_000)}
    assert "nioghalvfems" in small
    assert not any("hundrede" in number for number in small)


def test_a_row_with_a_form_too_few_is_refused_with_its_class_and_words():
    with pytest.raises(ValueError, match=r"thing: \['en', 'bold'\] has 2 forms, .*'many'\] wants 4"):
        grammar._read_class("thing", {"forms": ["article", "one", "the", "many"], "entries": "en bold\n"})


@pytest.mark.parametrize("slot", ["{thingy}", "{thing.plural}", "{colour@thingy}"])
def test_a_slot_that_nothing_fills_is_refused_with_its_rule(slot):
    classes = {
        "thing": WordClass(["article", "one"], [["en", "bold"]]),
        "colour": WordClass(["en", "et"], [["rød", "rødt"]]),
    }
    grammar._check_slots(classes, {"short": [(1.0, "{thing.one} {colour@thing} {any_word} {number}")]})
    with pytest.raises(ValueError, match="rule short: no such word or form"):
        grammar._check_slots(classes, {"short": [(1.0, f"{slot} er her")]})
