"""Danish speech recognition, by hand: a small package that the notebooks import."""

import os

# Before torch starts its threads: by default they spin while they wait, and on a laptop with anything else running
# (a second notebook, a browser) that makes a training step about ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
