"""Ships what ``mim`` looks for, ``mmfaseg/.mim``; the rest is in setup.cfg."""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_FILES = ('tools', 'configs', 'model-index.yml')


class BuildPyWithMim(build_py):
    """Adds ``mmfaseg/.mim``: copies for a wheel, links for an editable one."""

    def run(self) -> None:
        """Build as usual, then add the files of mim."""
        super().run()
        package = ROOT if self.editable_mode else Path(self.build_lib)
        mim = package / 'mmfaseg' / '.mim'
        if mim.exists():
            shutil.rmtree(mim)
        mim.mkdir(parents=True)
        for name in MIM_FILES:
            if self.editable_mode:
                os.symlink(Path('..', '..', name), mim / name)
            else:
                self._copy(ROOT / name, mim / name)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        if source.is_dir():
            ignore = shutil.ignore_patterns('__pycache__')
            shutil.copytree(source, target, ignore=ignore)
        else:
            shutil.copy2(source, target)


setup(cmdclass={'build_py': BuildPyWithMim})
