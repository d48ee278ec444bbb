"""Folders of this package; does not import OpenMMLab packages."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def find_package_folder(name: str) -> Path:
    """Returns the folder ``configs`` or ``tools`` of this package.

    Wheels and editable installs have it in ``.mim``. A checkout that is not
    installed has it beside the package.
    """
    shipped = PACKAGE / '.mim' / name
    folder = shipped if shipped.is_dir() else PACKAGE.parent / name
    return folder.resolve()
