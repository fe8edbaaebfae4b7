"""Train the tiny language model from text alone: python -m course_lib.tiny_lm --config course_lib/configs/tiny_lm.yaml"""

import sys

from course_lib.config import read_training_command
from course_lib.errors import run_command
from course_lib.language_model.tiny import TinyLMConfig, train_tiny_lm


def main() -> None:
    """Read the command line, train, say where the result is."""
    config, resume = read_training_command(__doc__, "tiny_lm.yaml", TinyLMConfig)
    print(f"saved to {train_tiny_lm(config, resume)}")


if __name__ == "__main__":
    sys.exit(run_command(main))
