"""Sentences, voices, rooms and noise → a corpus of speech; files of speech → batches."""
