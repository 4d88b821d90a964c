"""Puts conf/ and results/reference/, which stay where people look for them, into the wheel: normlab/shipped/."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("conf", "results/reference")


class BuildWithShippedFolders(build_py):
    """As ever, and the folders; an editable install finds them in the checkout."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        for name in () if self.editable_mode else SHIPPED:
            copy = Path(self.build_lib) / "normlab" / "shipped" / name
            shutil.copytree(Path(__file__).parent / name, copy, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithShippedFolders})
