"""The loop that trains everything here: its settings, its optimisers, its checkpoints."""
