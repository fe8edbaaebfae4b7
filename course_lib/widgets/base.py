"""What all live demos share: a layout, and a static twin for viewers in which no Python runs (GitHub, an untrusted Lab)."""

import base64
import io

import ipywidgets
from matplotlib.figure import Figure


def figure_to_png(figure: Figure, dpi: int = 80) -> bytes:
    """Render a figure, without a display."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


class Demo(ipywidgets.VBox):
    """A demo: `children` are live; `twin_png` and `twin_text` are what is seen where they cannot be."""

    def __init__(self, children: list[ipywidgets.Widget], twin_png: bytes, twin_text: str):
        super().__init__(children, layout=ipywidgets.Layout(max_width="760px"))
        self.twin_png, self.twin_text = twin_png, twin_text

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict[str, object], dict[str, object]]:
        """The live view for a notebook with a kernel, a picture and a sentence for every other viewer."""
        bundle = super()._repr_mimebundle_(**kwargs) or {}
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "image/png": base64.b64encode(self.twin_png).decode(), "text/plain": self.twin_text}, metadata
