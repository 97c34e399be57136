"""The fonts that results are drawn in."""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/dejavu", "/usr/share/fonts/TTF")


def font_files() -> tuple[Path, Path]:
    """The regular and the bold font as TrueType files: DejaVu Sans where the system has it, else Vera.

    Vera comes with reportlab and covers western and central Europe; DejaVu adds Greek, Cyrillic, Arabic and more.
    """
    import reportlab

    for folder in map(Path, FOLDERS):
        if (folder / "DejaVuSans-Bold.ttf").is_file():
            return folder / "DejaVuSans.ttf", folder / "DejaVuSans-Bold.ttf"
    own = Path(reportlab.__file__).parent / "fonts"
    return own / "Vera.ttf", own / "VeraBd.ttf"
