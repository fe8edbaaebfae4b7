"""The imports of course_lib → docs/house.svg, the drawing in README: python docs/draw_house.py

A folder is a room, a module of it a name on its wall, an import an arrow. PLAN says where a room stands; everything else is
read from the code, so the drawing cannot lie. tests/test_house.py compares the two.
"""

import ast
import graphlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "house.svg"
PACKAGE = "course_lib"

COMMANDS, GROUND = "commands", ("compute", "config", "errors", "files", "huggingface")
"""Modules of no folder are commands, except for `systems` and the ground on which every floor stands."""

PLAN = (
    {"commands": (0, 6), "benchmark": (6, 2)},
    {"systems": (0, 8)},
    {"widgets": (0, 3), "evaluation": (4, 4)},
    {"slam": (0, 4), "exercises": (4, 2)},
    {"ctc": (0, 3), "language_model": (3, 3)},
    {"data": (0, 8)},
    {"encoder": (0, 3)},
    {"sound": (0, 3), "text": (3, 3), "training": (6, 2)},
)
"""Floors from the top: the first of eight columns that a room takes up, and how many."""

COLUMN, LEFT, GAP, LINE = 112, 32, 30, 16
INK, SOFT, WALL, PAPER = "#1f3b57", "#4a4a4a", "#eef2f5", "#ffffff"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a folder's `__init__` has the folder's."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports_of(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The package's modules that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"{path}: imports are absolute here, from {PACKAGE}… import …")
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in inside]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == PACKAGE)


def module_imports() -> dict[str, set[str]]:
    """For each module, the modules of the package that it imports."""
    known = modules()
    return {name: set(imports_of(path, known)) for name, path in known.items()}


def room_of(module: str) -> str:
    """The room of a module: its folder; else itself, or `commands`.

    >>> room_of("course_lib.ctc.beam"), room_of("course_lib.train"), room_of("course_lib.files")
    ('ctc', 'commands', 'files')
    """
    _, first, *rest = module.split(".")
    is_command = not rest and not (ROOT / PACKAGE / first).is_dir() and first not in (*GROUND, "systems")
    return COMMANDS if is_command else first


def room_imports() -> dict[str, set[str]]:
    """For each room, the other rooms that it imports."""
    rooms: dict[str, set[str]] = {}
    for module, imported in module_imports().items():
        if module != PACKAGE:
            found = rooms.setdefault(room_of(module), set())
            found |= {room_of(other) for other in imported} - {room_of(module)}
    return rooms


def arrows(rooms: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports between rooms that do not follow from two others, without those of the ground.

    >>> arrows({"slam": {"ctc", "data"}, "ctc": {"data", "files"}, "data": {"files"}, "files": set()})
    [('ctc', 'data'), ('slam', 'ctc')]
    """
    reachable: dict[str, set[str]] = {}
    for room in graphlib.TopologicalSorter(rooms).static_order():
        reachable[room] = rooms[room].union(*(reachable[other] for other in rooms[room]))
    direct = [(room, other) for room in sorted(rooms) for other in sorted(rooms[room]) if other not in GROUND]
    return [(room, other) for room, other in direct if not any(other in reachable[via] for via in rooms[room])]


def names_on_the_wall(room: str, width: int) -> list[str]:
    """The modules of a room, in lines that fit it, exercises' chapters as one; of a room that is a module, its summary."""
    inside = [module for module in modules() if module != PACKAGE and room_of(module) == room]
    if inside == [f"{PACKAGE}.{room}"]:
        return ast.get_docstring(ast.parse(modules()[inside[0]].read_text(encoding="utf-8"))).splitlines()[:1]
    names = [module.split(".")[-1] for module in inside if not module.endswith(("__main__", f"{PACKAGE}.{room}"))]
    chapters = [name for name in names if name.startswith("chapter_")]
    if chapters:
        names = [name for name in names if name not in chapters] + [f"{chapters[0]}\u00a0…\u00a0{chapters[-1]}"]
    return textwrap.wrap(", ".join(names), width // 6)


def draw() -> str:
    """The whole drawing as SVG."""
    boxes: dict[str, tuple[int, int, int, int]] = {}
    parts: list[str] = []
    top = 90
    for floor in PLAN:
        walls = {room: names_on_the_wall(room, COLUMN * columns - 30) for room, (_, columns) in floor.items()}
        height = 34 + LINE * max(map(len, walls.values()))
        for room, (first, columns) in floor.items():
            boxes[room] = (LEFT + COLUMN * first, top, COLUMN * columns - 12, height)
            parts += _room(room, walls[room], boxes[room])
        top += height + GAP
    rooms = room_imports()
    homeless = rooms.keys() - boxes.keys() - {*GROUND}
    if homeless:
        raise ValueError(f"no place in PLAN for {', '.join(sorted(homeless))}")
    lines = [_arrow(boxes, *arrow) for arrow in arrows(rooms)]
    width = 2 * LEFT + 8 * COLUMN - 12
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + 92}" '
            'font-family="Helvetica, Arial, sans-serif" role="img" aria-label="The folders of course_lib and their imports">',
            f'<rect width="{width}" height="{top + 92}" fill="{PAPER}"/>',
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 10 5 0 10z" fill="{INK}"/></marker></defs>',
            f'<path d="M{LEFT - 14} 76 L{width // 2} 14 L{width - LEFT + 14} 76z" fill="#f6d9a8" stroke="#8a5a00"/>',
            _text(width // 2, 62, PACKAGE, 18, INK, "bold"),
            f'<g stroke="{INK}" stroke-width="1.6" fill="none" marker-end="url(#tip)">',
            *lines,
            "</g>",
            *parts,
            *_ground(width, top),
            "</svg>",
            "",
        ]
    )


def _room(room: str, wall: list[str], box: tuple[int, int, int, int]) -> list[str]:
    left, top, width, height = box
    middle = left + width // 2
    lines = [_text(middle, top + 40 + LINE * i, line, 12, SOFT) for i, line in enumerate(wall)]
    rectangle = f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="5" fill="{WALL}" stroke="{INK}"/>'
    return [rectangle, _text(middle, top + 21, room, 15, INK, "bold"), *lines]


def _ground(width: int, top: int) -> list[str]:
    """The modules that everybody may import, and how to read the arrows."""
    reading = "An arrow points at what a room imports. Arrows that follow from two others are left out."
    return [
        f'<path d="M{LEFT - 14} {top + 6} H{width - LEFT + 14}" stroke="#8a5a00" stroke-width="3"/>',
        _text(width // 2, top + 32, " · ".join(GROUND), 15, INK, "bold"),
        _text(width // 2, top + 52, "the ground: every room may import them, and they import only each other", 12, SOFT),
        _text(width // 2, top + 76, reading, 12, SOFT),
    ]


def _text(x: int, y: int, words: str, size: int, colour: str, weight: str = "normal") -> str:
    look = f'font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x}" y="{y}" text-anchor="middle" {look}>{words}</text>'


def _arrow(boxes: dict[str, tuple[int, int, int, int]], above: str, below: str) -> str:
    """Straight down where the two rooms overlap and nothing stands between, else aslant between their nearest corners."""
    left, top, width, height = boxes[above]
    other_left, other_top, other_width, _ = boxes[below]
    start, end = max(left, other_left), min(left + width, other_left + other_width)
    if start >= end:
        edge = 24
        to_the_left = left > other_left
        x = left + edge if to_the_left else left + width - edge
        other_x = other_left + other_width - edge if to_the_left else other_left + edge
        return f'<path d="M{x} {top + height} L{other_x} {other_top}"/>'
    between = [box for box in boxes.values() if top + height < box[1] < other_top]
    columns = range(start + COLUMN // 2, end, COLUMN // 2)
    free = [x for x in columns if not any(box[0] <= x <= box[0] + box[2] for box in between)] or list(columns)
    x = free[len(free) // 2]
    return f'<path d="M{x} {top + height} V{other_top}"/>'


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE)
