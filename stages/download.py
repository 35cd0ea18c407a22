"""Fetch a data set's archives and extract the files of the experiment's splits."""

import argparse
from pathlib import Path

from fcn import params
from fcn.datasets import sources
from fcn.io import pins
from fcn.pipeline import dvc_lock
from fcn.runtime import files, locks
from fcn.runtime.errors import counted, one_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for images, masks and lists")
    out: Path = parser.parse_args().out
    with locks.exclusive(out):
        dvc_lock.protect()
        _download(out)


def _download(out: Path) -> None:
    experiment = params.load()
    source = sources.get(experiment.data.dataset)
    archives = source.archives(experiment.data)
    for archive in archives:
        print(archive.notice, flush=True)
    fetched = {}
    if archives:
        from fcn.io.download import fetch_all  # only data sets with archives need the network

        fetched = fetch_all(archives)
    with files.replacing_folder(out) as folder:
        source.build(experiment.data, fetched, folder)
    for archive in archives:
        pins.record_unpublished(archive, fetched[archive.name])
    print(f"{out}: {counted(sum(1 for p in out.rglob('*') if p.is_file()), 'file')}")


if __name__ == "__main__":
    with one_line():
        main()
