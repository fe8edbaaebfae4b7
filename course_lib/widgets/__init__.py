"""Live demos: for each a pure function that makes the picture or the text, and a thin shell of ipywidgets over it."""
