"""Search for image files in folders."""

from pathlib import Path

from mmengine.utils import scandir

IMAGES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


def scan_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Returns the files of a folder and its subfolders, relative to it.

    Hidden files and folders are skipped, and links are followed.

    Args:
        folder (Path): The folder.
        suffixes (tuple[str, ...]): Ends of the file names, lower case.
    """
    names = scandir(folder, suffixes, recursive=True, case_sensitive=False)
    return sorted(
        path
        for path in map(Path, names)
        if not any(x.startswith('.') for x in path.parts)
    )
