"""SLAM-ASR: features → projector → audio tokens → a frozen language model → text."""
