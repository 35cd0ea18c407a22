"""Fetch a data set's archives and extract the files of the experiment's splits."""

import argparse
from pathlib import Path

from fcn.datasets import sources
from fcn.io import pins
from fcn.params import Params
from fcn.pipeline import script
from fcn.runtime import files
from fcn.runtime.errors import counted


def main(paths: argparse.Namespace, experiment: Params) -> None:
    source = sources.get(experiment.data.dataset)
    archives = source.archives(experiment.data)
    for archive in archives:
        print(archive.notice, flush=True)
    fetched = {}
    if archives:
        from fcn.io.download import fetch_all  # only data sets with archives need the network

        fetched = fetch_all(archives)
    with files.replacing_folder(paths.out) as folder:
        source.build(experiment.data, fetched, folder)
    for archive in archives:
        pins.record_unpublished(archive, fetched[archive.name])
    print(f"{paths.out}: {counted(sum(1 for p in paths.out.rglob('*') if p.is_file()), 'file')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for images, masks and lists")
    script.run(parser, main, lock="out")
