"""A log-mel spectrogram → features: Whisper's frozen encoder, and Stage B's that is trained from nothing."""
