"""Connectionist temporal classification: paths, beam search, what can be aligned, and Stage B's recogniser."""
