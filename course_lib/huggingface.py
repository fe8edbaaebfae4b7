"""The one door through which the course imports transformers: without torchaudio.

transformers imports torchaudio wherever it is installed, for file formats that the course does not read. That takes time, and
a torchaudio that does not fit the installed torch (PyPI's beside a CPU build) fails, and takes every model down with it. So
transformers looks for it while it seems not to be there, and remembers that. A later `import torchaudio` is as ever.

Importing transformers takes seconds. So course_lib goes through this door inside the functions that load a model, and not
where a module begins: `--help`, a typing error in a file name and the whole of Stage B answer at once.
"""

import sys

hide = "torchaudio" not in sys.modules  # one that is imported already has shown that it works
if hide:
    sys.modules["torchaudio"] = None  # Python's own way to say: do not look for it
try:
    import transformers
    from transformers.utils import is_torchaudio_available

    is_torchaudio_available()  # the answer is kept from here on
finally:
    if hide:
        del sys.modules["torchaudio"]

__all__ = ["transformers"]
