"""Finds the packages: ``drc_deploy``, and the rooms that lie next to it, which become ``drc_deploy.<room>``."""

from setuptools import find_packages, setup

ROOMS = ("train", "export", "runtime", "bench")

core = [name for name in find_packages("drc_deploy") if name.split(".")[0] not in ROOMS]  # links to rooms are followed
inside = [f"{room}.{name}" for room in ROOMS for name in find_packages(room)]
setup(
    packages=["drc_deploy", *(f"drc_deploy.{name}" for name in [*core, *ROOMS, *inside])],
    package_dir={"drc_deploy": "drc_deploy", **{f"drc_deploy.{room}": room for room in ROOMS}},
)
