"""A grammar of everyday Danish → sentences, each belonging to exactly one split.

The grammar itself is text (`configs/danish_grammar.yaml`): word classes with their inflected forms, and templates. This
module draws from it. Which split a sentence belongs to is not a list but a property of its letters (`split_of`), so no
corpus, however large, and no language-model text can ever let a test sentence into training.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from course_lib.text.normalise import normalise, number_to_words

SLOT = re.compile(r"\{(\w+?)(\d?)(?:\.(\w+))?(?:@(\w+))?\}")
DEV_PERCENT, TEST_PERCENT = 3, 5
SINGLE_WORD_SHARE = 0.22


@dataclass(frozen=True)
class WordClass:
    """One word class: a row per word, a column per form ("en hat hatten hatte")."""

    forms: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Grammar:
    """Word classes and weighted templates; see the head of `danish_grammar.yaml` for the notation."""

    classes: dict[str, WordClass]
    rules: dict[str, list[tuple[float, str]]]
    words: list[str]


def split_of(sentence: str) -> str:
    """Say which split a sentence of two words or more belongs to: "train" (92 %), "dev" (3 %) or "test" (5 %).

    The SHA-256 of the sentence decides, so the answer is the same in every corpus and on every machine. Single words
    belong to all splits (there are too few to divide); for them the answer is "any".
    """
    if " " not in sentence:
        return "any"
    percent = int(hashlib.sha256(sentence.encode()).hexdigest(), 16) % 100
    if percent < DEV_PERCENT:
        return "dev"
    return "test" if percent < DEV_PERCENT + TEST_PERCENT else "train"


@cache
def load_grammar() -> Grammar:
    """Read the shipped grammar; raises ValueError that names the class, row or slot that does not fit."""
    text = resources.files("course_lib.configs").joinpath("danish_grammar.yaml").read_text(encoding="utf-8")
    source = yaml.safe_load(text)
    classes = {name: _read_class(name, entry) for name, entry in source["words"].items()}
    rules = {name: [_read_template(line) for line in lines] for name, lines in source["rules"].items()}
    _check_slots(classes, rules)
    return Grammar(classes, rules, _all_words(classes, rules))


def draw_utterance(rng: random.Random, split: str) -> str:
    """Draw one normalised utterance of this split ("train", "dev" or "test") from the grammar.

    Of a hundred sentences the grammar makes, three belong to dev, but every single word does. So for dev and test it is
    decided first whether a single word may come; otherwise they would consist of little else.
    """
    words_too = split == "train" or rng.random() < SINGLE_WORD_SHARE
    accepted = (split, "any") if words_too else (split,)
    while True:
        sentence = normalise(_expand(load_grammar(), "utterance", rng))
        if split_of(sentence) in accepted:
            return sentence


def _read_class(name: str, entry: dict) -> WordClass:
    rows = [[cell.replace("_", " ") for cell in row.split()] for row in entry["entries"].splitlines()]
    for row in rows:
        if len(row) != len(entry["forms"]):
            raise ValueError(
                f"danish_grammar.yaml: {name}: {row} has {len(row)} forms, {entry['forms']} wants {len(entry['forms'])}"
            )
    return WordClass(entry["forms"], rows)


def _read_template(line: str) -> tuple[float, str]:
    weight, separator, template = line.partition(" | ")
    return (float(weight), template) if separator else (1.0, line)


def _check_slots(classes: dict[str, WordClass], rules: dict[str, list[tuple[float, str]]]) -> None:
    """Refuse a template with a slot that no class or rule fills: better at load time than in sentence 3,817."""
    for rule, templates in rules.items():
        for _, template in templates:
            for name, _, form, agrees_with in SLOT.findall(template):
                known = name in rules or name in classes or name in ("any_word", "number", "small_number")
                form_known = not form or (name in classes and form in classes[name].forms)
                if not known or not form_known or (agrees_with and agrees_with not in classes):
                    raise ValueError(f"danish_grammar.yaml: rule {rule}: no such word or form in {template!r}")


def _all_words(classes: dict[str, WordClass], rules: dict[str, list[tuple[float, str]]]) -> list[str]:
    cells = [cell for word_class in classes.values() for row in word_class.rows for cell in row]
    literals = [SLOT.sub(" ", template) for templates in rules.values() for _, template in templates]
    numbers = [number_to_words(n) for n in range(101)]
    words = normalise(" ".join(cells + literals + numbers)).split()
    return sorted(set(words) - {"many"})


def _draw_number(rng: random.Random, largest: int) -> str:
    """Small numbers are common in speech, hundreds are rarer; 0 and 1 are left out for their grammar (en or et)."""
    low, high = rng.choices([(2, 20), (21, 99), (100, 999)], weights=[5, 4, 1 if largest > 99 else 0])[0]
    return number_to_words(rng.randint(low, high))


def _expand(grammar: Grammar, rule: str, rng: random.Random) -> str:
    weights, templates = zip(*grammar.rules[rule], strict=True)
    template = rng.choices(templates, weights)[0]
    drawn: dict[str, list[str]] = {}
    _draw_nouns_first(grammar, template, drawn, rng)
    return SLOT.sub(lambda slot: _fill(grammar, slot, drawn, rng), template)


def _draw_nouns_first(grammar: Grammar, template: str, drawn: dict[str, list[str]], rng: random.Random) -> None:
    """Draw each named word once, so that "{my@thing} {thing.one}" agrees with a noun that stands after it."""
    for name, number, _, _ in SLOT.findall(template):
        if name in grammar.classes and name + number not in drawn:
            others = [row for row in grammar.classes[name].rows if row not in drawn.values()]
            drawn[name + number] = rng.choice(others)


def _fill(grammar: Grammar, slot: re.Match, drawn: dict[str, list[str]], rng: random.Random) -> str:
    name, number, form, agrees_with = slot.groups()
    if name == "any_word":
        return rng.choice(grammar.words)
    if name in ("number", "small_number"):
        return _draw_number(rng, 99 if name == "small_number" else 999)
    if name in grammar.rules:
        return _expand(grammar, name, rng)
    forms = grammar.classes[name].forms
    if agrees_with:
        form = drawn[agrees_with][grammar.classes[agrees_with].forms.index("article")]
    return drawn[name + number][forms.index(form) if form else 0]
