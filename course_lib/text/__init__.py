"""Transcripts: how they are written one way, spelled in symbols, compared, and how likely Danish they are."""
