"""A list of clips, a slider over the places of one, and a player of the sound there: what the viewers of sound share."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import ipywidgets
import soundfile
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.sound.audio import SAMPLE_RATE
from course_lib.widgets.base import Demo, figure_to_png


def audio_html(waveform: Float[Tensor, "samples"], caption: str, autoplay: bool = False) -> str:
    """A player with its sound inside: 16 kHz, 16 bit, so 0.4 s are 13 KB and a third more in base64."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.clamp(-1, 1).numpy(), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    sound = "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode()
    return f'<div>{html.escape(caption)}</div><audio controls{" autoplay" * autoplay} src="{sound}"></audio>'


def window_bounds(samples: int, centre_seconds: float, seconds: float) -> tuple[int, int]:
    """First sample, and the one after the last, of a window around a moment; at the ends of the clip it is moved inside.

    >>> window_bounds(16_000, 0.5, 0.4), window_bounds(16_000, 0.0, 0.4), window_bounds(1_600, 0.0, 0.4)
    ((4800, 11200), (0, 6400), (0, 1600))
    """
    size = min(round(seconds * SAMPLE_RATE), samples)
    start = max(0, min(round(centre_seconds * SAMPLE_RATE) - size // 2, samples - size))
    return start, start + size


class ClipSlider(Demo):
    """Pick a clip, move over its places (frames, audio tokens), press a button to hear the one under the cursor.

    A subclass names its places and says how many the `current` clip has, at which to begin, and how to draw, describe and
    play one. Every clip has a `caption`.
    """

    place_name: str
    piece_seconds: float
    invitation: str

    def __init__(self, clips: Sequence[Any], more_players: Sequence[ipywidgets.HTML] = ()):
        if not clips:
            raise ValueError("no clips to show: pass at least one")
        self.clips, self.plays = list(clips), 0
        captions = [(clip.caption, index) for index, clip in enumerate(self.clips)]  # two may be the same
        self.clip = ipywidgets.Dropdown(options=captions, description="clip", layout={"width": "98%"})
        self.place = ipywidgets.IntSlider(description=self.place_name, layout={"width": "98%"})
        self.play = ipywidgets.Button(description=f"play {self.piece_seconds:g} s here", icon="play")
        self.follow = ipywidgets.Checkbox(description="play at every move", indent=False)
        self.text, self.picture = ipywidgets.HTML(), ipywidgets.Image(format="png", layout={"width": "100%"})
        self.piece = ipywidgets.HTML()
        self.clip.observe(self._pick, names="value")
        self.place.observe(self._refresh, names="value")
        self.play.on_click(lambda button: self._sound(autoplay=True))
        self._pick()
        twin_text = f"Live in JupyterLab: pick a clip, {self.invitation}. Here, “{self.current.caption}”."
        controls, players = ipywidgets.HBox([self.play, self.follow]), ipywidgets.HBox([self.piece, *more_players])
        children = [self.clip, self.place, controls, self.picture, self.text, players]
        super().__init__(children, bytes(self.picture.value), twin_text)

    @property
    def current(self) -> Any:
        """The clip on show."""
        return self.clips[self.clip.value]

    def places(self) -> int:
        """How many places the clip has."""
        raise NotImplementedError

    def begin(self) -> int:
        """Where the slider stands when a clip has been picked."""
        raise NotImplementedError

    def describe(self, place: int) -> str:
        """HTML about a place."""
        raise NotImplementedError

    def draw(self, place: int) -> Figure:
        """The picture, with the cursor at a place."""
        raise NotImplementedError

    def player(self, place: int, autoplay: bool) -> str:
        """A player (`audio_html`) of the sound around a place."""
        raise NotImplementedError

    def _pick(self, change: Any = None) -> None:
        """The slider goes to 0 before its end moves, so it never points outside either clip."""
        self.place.unobserve(self._refresh, names="value")
        self.place.value, self.place.max = 0, self.places() - 1
        self.place.value = self.begin()
        self.place.observe(self._refresh, names="value")
        self._refresh()

    def _refresh(self, change: Any = None) -> None:
        self.text.value = self.describe(self.place.value)
        self._sound(autoplay=self.follow.value and change is not None)
        self.picture.value = figure_to_png(self.draw(self.place.value), dpi=100)

    def _sound(self, autoplay: bool) -> None:
        """Put the piece into its player; the number of plays makes a second click on the same place a change, too."""
        self.plays += autoplay
        self.piece.value = self.player(self.place.value, autoplay) + f"<!-- {self.plays} -->"
