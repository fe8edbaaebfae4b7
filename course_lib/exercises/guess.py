"""The learner's guess beside the truth."""


def compare_guess(guess: int | float | None, truth: int | float, unit: str = "") -> None:
    """Print the truth beside the learner's guess; no guess is fine, and said."""
    words = f"{truth:,} {unit}".strip()
    if guess is None:
        print(f"{words} (you have not guessed yet)")
    elif guess == truth:
        print(f"{words}: your guess is right")
    else:
        print(f"{words}: your guess was {guess:,}, {abs(guess - truth):,} {'too many' if guess > truth else 'too few'}")
