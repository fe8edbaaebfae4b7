"""A file of sound → a waveform → a log-mel spectrogram, and back."""
