"""Fetches a data set's archives and takes out the files that the experiment's splits name."""

import argparse
import shutil
from pathlib import Path

from fcn import params, sources
from fcn.errors import one_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for images, masks and lists")
    out: Path = parser.parse_args().out
    experiment = params.load()
    source = sources.get(experiment.data.dataset)
    archives = {}
    for archive in source.archives(experiment.data):
        from fcn.download import fetch  # only what has archives needs the network

        print(f"{archive.name}: {archive.licence}", flush=True)
        archives[archive.name] = fetch(archive)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        source.build(experiment.data, archives, out)
    except BaseException:
        shutil.rmtree(out)
        raise
    print(f"{out}: {sum(1 for p in out.rglob('*') if p.is_file())} files")


if __name__ == "__main__":
    with one_line():
        main()
