"""The learner's guess beside the truth."""


def compare_guess(guess: int | float | None, truth: int | float, unit: str = "", within: float = 0.05) -> None:
    """Print the truth beside the learner's guess; no guess is fine, and said.

    A guess within 5 % of the truth is close, and is told so. Of small counts only the count itself is right.

    >>> compare_guess(0.29, 0.3, "seconds")
    0.3 seconds: your guess of 0.29 is close
    >>> compare_guess(6, 7, "paths")
    7 paths: your guess was 6, 1 too few
    """
    words = f"{_shown(truth)} {unit}".strip()
    if guess is None:
        print(f"{words} (you have not guessed yet)")
    elif guess == truth:
        print(f"{words}: your guess is right")
    elif abs(guess - truth) <= within * abs(truth):
        print(f"{words}: your guess of {_shown(guess)} is close")
    else:
        off = _shown(abs(guess - truth))
        print(f"{words}: your guess was {_shown(guess)}, {off} {'too many' if guess > truth else 'too few'}")


def _shown(number: int | float) -> str:
    """Whole numbers whole, others to five digits: no 0.010000000000000009."""
    return f"{number:,}" if number == int(number) and isinstance(number, int) else f"{float(f'{number:.5g}'):,}"
