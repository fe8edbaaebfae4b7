"""Timed transcripts → subtitles that every player can show: SubRip, the file with the ending .srt."""

from collections.abc import Iterable

from course_lib.data.long_audio import TimedTranscript


def subrip(pieces: Iterable[TimedTranscript]) -> str:
    """Number, times and text of each piece that has a text, with an empty line between two.

    >>> print(subrip([TimedTranscript(0.0, 1.25, "en kop te"), TimedTranscript(61.5, 63.0, "ja tak")]), end="")
    1
    00:00:00,000 --> 00:00:01,250
    en kop te
    <BLANKLINE>
    2
    00:01:01,500 --> 00:01:03,000
    ja tak
    """
    spoken = (piece for piece in pieces if piece.text)
    cues = [
        f"{number}\n{clock(piece.start)} --> {clock(piece.end)}\n{piece.text}\n" for number, piece in enumerate(spoken, start=1)
    ]
    return "\n".join(cues)


def clock(seconds: float) -> str:
    """Hours, minutes, seconds and, after a comma, thousandths.

    >>> clock(3725.0625)
    '01:02:05,062'
    """
    thousandths = round(1000 * seconds)
    whole, rest = divmod(thousandths, 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{rest:03}"
