"""The learner's guess beside the truth."""


def compare_guess(guess: int | float | None, truth: int | float, unit: str = "", within: float = 0.05) -> None:
    """Print the truth beside the learner's guess; no guess is fine, and said.

    A guess within 5 % of the truth is told so, and by how much it is off all the same: two frames too few can be the lesson.

    >>> compare_guess(0.29, 0.3, "seconds")
    0.3 seconds: your guess was 0.29, 0.01 too few (within 5 %)
    >>> compare_guess(6, 7, "paths")
    7 paths: your guess was 6, 1 too few
    """
    words = f"{_shown(truth)} {unit}".strip()
    if guess is None:
        print(f"{words} (you have not guessed yet)")
    elif guess == truth:
        print(f"{words}: your guess is right")
    else:
        off = f"{_shown(abs(guess - truth))} {'too many' if guess > truth else 'too few'}"
        close = f" (within {100 * within:g} %)" if abs(guess - truth) <= within * abs(truth) else ""
        print(f"{words}: your guess was {_shown(guess)}, {off}{close}")


def _shown(number: int | float) -> str:
    """Whole numbers whole, others to five digits: no 0.010000000000000009."""
    return f"{number:,}" if number == int(number) and isinstance(number, int) else f"{float(f'{number:.5g}'):,}"
