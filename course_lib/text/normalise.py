"""A Danish transcript as somebody wrote it → one way of writing it: lower case, numbers in words, no punctuation.

Two people who hear the same sentence write "20 %", "tyve procent" and "Tyve procent.". `normalise` makes
them one string, so that WER counts what was misheard and not how it was spelled. Every normaliser is a set
of decisions, and the same model moves by tens of points between two of them: name yours beside every
number. These are ours.

* Letters: Unicode NFC, lower case. æ, ø, å stay; Swedish and German ä, ö become æ, ø ("Malmö" → "malmø").
  Other accents go: "idé" → "ide", which Danish spelling allows. So "allé" meets "alle": an avenue becomes
  everybody.
* aa stays aa and å stays å ("Aarhus" ≠ "Århus"), unless `fold_aa=True` makes both å, as alexandrainst/coral
  does.
* Punctuation goes. A hyphen or slash parts words ("e-mail" → "e mail"); an apostrophe does not ("tv'et" →
  "tvet").
* Numbers are quantities: 100 "hundrede", 125 "hundrede og femogtyve", 1.000 "tusind". Years too: 1999 is
  "tusind ni hundrede og nioghalvfems", though a Dane says "nitten hundrede og nioghalvfems". "90'erne" →
  "halvfemserne".
* 1 is "en", as when counting. "1 hus" is spoken "et hus": nothing here knows the gender of the noun.
* The comma is the decimal mark: "3,5" → "tre komma fem". One or two decimals are read as a number ("3,14" →
  "tre komma fjorten"), more of them digit by digit. A dot before exactly three digits marks thousands,
  "1.250".
* A time keeps its numbers, "8:30" and "8.30" → "otte tredive"; nobody guesses "halv ni". Leading zeros are
  spoken: "8:05" → "otte nul fem".
* "3." is an ordinal, from 1 to 99, where a lower-case word follows on the line: "den 3. maj" → "den tredje
  maj". Elsewhere the dot ends a sentence. Lower-case the text first and "Vi er 3. Kom nu" becomes "vi er
  tredje kom nu".
* % & + § ° € $ £ ½ are spoken where they stand ("$5" → "dollar fem"); other symbols go. "kr." stays "kr".
"""

import re
import unicodedata
from collections.abc import Sequence

DANISH_CHARACTERS = " abcdefghijklmnopqrstuvwxyzæøå"
"""Space and the 29 letters: everything `normalise` writes for a Danish text."""

UNITS = str.split("nul en to tre fire fem seks syv otte ni ti elleve tolv tretten fjorten femten seksten sytten atten nitten")
TENS = str.split("- ti tyve tredive fyrre halvtreds tres halvfjerds firs halvfems")
ORDINAL_UNITS = str.split(
    "nulte første anden tredje fjerde femte sjette syvende ottende niende tiende "
    "ellevte tolvte trettende fjortende femtende sekstende syttende attende nittende"
)
ORDINAL_TENS = str.split(
    "- tiende tyvende tredivte fyrretyvende halvtredsindstyvende "
    "tresindstyvende halvfjerdsindstyvende firsindstyvende halvfemsindstyvende"
)

SPOKEN_SYMBOLS = {
    "%": "procent",
    "&": "og",
    "+": "plus",
    "§": "paragraf",
    "°": "grader",
    "€": "euro",
    "$": "dollar",
    "£": "pund",
    "½": "en halv",
}

NUMBER = re.compile(
    r"""
    (?P<minus>(?<!\S)[-−](?=\d))?
    (?P<whole>[1-9]\d{0,2}(?:[.\u00a0\u202f]\d{3})+(?![.]?\d)|\d+)   # 1.250.000, or plain digits
    (?:,(?P<decimals>\d+))?
    (?P<ordinal>\.(?=[ \t\u00a0]+[a-zæøå]))?
    (?:(?<=0)['’](?P<ending>er(?:nes?)?)\b)?                         # 90'erne
    """,
    re.VERBOSE,
)


def number_to_words(n: int) -> str:
    """Spell a whole number in Danish, from −999,999,999 to 999,999,999. Raises ValueError beyond.

    Danish says the ones before the tens, and from fifty it counts in scores: halvtreds is short for
    halv-tredje-sinds-tyve, two and a half times twenty. 1 is "en", as when counting, and the neuter "et"
    only before "hundrede" and "tusind".

    >>> [number_to_words(n) for n in (0, 1, 21, 55, 99)]
    ['nul', 'en', 'enogtyve', 'femoghalvtreds', 'nioghalvfems']
    >>> [number_to_words(n) for n in (100, 125, 203, 1000, 2003)]
    ['hundrede', 'hundrede og femogtyve', 'to hundrede og tre', 'tusind', 'to tusind og tre']
    >>> number_to_words(101_100)
    'hundrede og et tusind et hundrede'
    """
    if abs(n) > 999_999_999:
        raise ValueError(f"number_to_words spells −999,999,999 to 999,999,999; {n:,} has no words here")
    if n < 0:
        return "minus " + number_to_words(-n)
    if n < 100:
        return _below_hundred(n, UNITS, TENS)
    millions, thousands, hundreds, rest = n // 1_000_000, n // 1000 % 1000, n // 100 % 10, n % 100
    parts: list[str] = []
    if millions:
        parts.append("en million" if millions == 1 else f"{number_to_words(millions)} millioner")
    for count, unit in ((thousands, "tusind"), (hundreds, "hundrede")):
        if count:
            # 100 alone is "hundrede", but 1100 is "tusind et hundrede".
            parts.append(unit if count == 1 and not parts else f"{_neuter(number_to_words(count))} {unit}")
    if rest:
        parts += ["og", number_to_words(rest)]
    return " ".join(parts)


def ordinal_to_words(n: int) -> str:
    """Spell an ordinal from 1 to 99 in Danish. Raises ValueError beyond.

    >>> [ordinal_to_words(n) for n in (1, 2, 24, 50)]
    ['første', 'anden', 'fireogtyvende', 'halvtredsindstyvende']
    """
    if not 1 <= n <= 99:
        raise ValueError(f"ordinal_to_words spells 1. to 99.; {n:,}. has no words here")
    return _below_hundred(n, ORDINAL_UNITS, ORDINAL_TENS)


def normalise(text: str, fold_aa: bool = False) -> str:
    """Write Danish one way: lower case, numbers in words, no punctuation. See the module's decisions.

    The result normalises to itself. Letters of other alphabets stay: `vocabulary.CharVocabulary` refuses them by name.

    >>> normalise("Hej, hvordan har du det?")
    'hej hvordan har du det'
    >>> normalise("Den 3. maj kl. 8.30 steg prisen 20 % til 1.000 kr.")
    'den tredje maj kl otte tredive steg prisen tyve procent til tusind kr'
    >>> normalise("Aarhus og Århus"), normalise("Aarhus og Århus", fold_aa=True)
    ('aarhus og århus', 'århus og århus')
    """
    text = re.sub(r"\d", lambda digit: str(int(digit[0])), text)  # other scripts have digits too: ３ → 3
    text = NUMBER.sub(_spoken_number, text)
    for symbol, words in SPOKEN_SYMBOLS.items():
        text = text.replace(symbol, f" {words} ")
    text = _danish_letters(text.lower())
    text = re.sub(r"['’‘`´]", "", text)
    text = "".join(character if character.isalpha() else " " for character in text)
    if fold_aa:
        text = text.replace("aa", "å")
    return " ".join(text.split())


def _below_hundred(n: int, units: Sequence[str], tens: Sequence[str]) -> str:
    if n < 20:
        return units[n]
    ones = n % 10
    return tens[n // 10] if ones == 0 else f"{UNITS[ones]}og{tens[n // 10]}"


def _neuter(words: str) -> str:
    return re.sub(r"\ben$", "et", words)


def _digits_to_words(digits: str, longest: int = 9) -> str:
    """Read digits as one number, its leading zeros one by one; more than `longest` of them digit by digit."""
    if len(digits) > longest:
        return " ".join(UNITS[int(digit)] for digit in digits)
    zeros = len(digits) - len(digits.lstrip("0"))
    rest = [] if zeros == len(digits) else [number_to_words(int(digits))]
    return " ".join(["nul"] * zeros + rest)


def _spoken_number(match: re.Match[str]) -> str:
    whole = re.sub(r"\D", "", match["whole"])
    decimals = match["decimals"]
    if match["ordinal"] and not decimals and 1 <= int(whole) <= 99:
        return f" {ordinal_to_words(int(whole))} "
    words = ("minus " if match["minus"] else "") + _digits_to_words(whole)
    if decimals:
        words += " komma " + _digits_to_words(decimals, longest=2)
    if match["ending"]:
        words = words.removesuffix("e") + match["ending"]
    return f" {words} "


def _danish_letters(text: str) -> str:
    """Keep å, turn ä and ö into æ and ø, take every other accent off its letter ("é" → "e")."""
    text = unicodedata.normalize("NFC", text).translate(str.maketrans("äö", "æø"))
    bare = (c if c == "å" else unicodedata.normalize("NFD", c) for c in text)
    return unicodedata.normalize("NFC", "".join(c for c in "".join(bare) if not unicodedata.combining(c)))
