"""For tools that still look for this file; the project is described in pyproject.toml."""

from setuptools import setup

setup()
