"""A tiny Danish language model, the denoising task that it learns, and the sequence that it reads."""
