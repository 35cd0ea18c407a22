"""How fast resize decodes and resizes photographs, beside what this machine's cores could decode at all.

    python -m benchmarks.resize            # 8 000 photographs of 500×375 to 256×256, some minutes

With FCN_MIRROR they are CamVid's, else drawn scenes with noise; 250 different ones, in turn. A round measures the
limits (one core that only decodes a JPEG and its PNG mask, or only writes as many bytes into a new file) and the whole
of `packing.pack` in a process of its own;
the best round counts, since other programs may have the cores. Writes benchmarks/results/resize.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.record import facts, record
from benchmarks.sides import peak_gigabytes
from fcn.datasets import packing, rendering
from fcn.datasets.label_maps import CAMVID, SCENES
from fcn.datasets.sources import Sample, camvid
from fcn.io import download, extraction
from fcn.runtime import machine

SIZE = (500, 375)
TARGET = "256x256"
DIFFERENT = 250
RESULTS = Path(__file__).parent / "results" / "resize.json"


def photographs(folder: Path) -> str:
    """Writes images and masks 0..249 into `folder`, and says what they are."""
    archive = download.find(camvid.ARCHIVE)
    if archive is None:
        for i in range(DIFFERENT):
            scene = rendering.render((0, 0, i), *SIZE)
            noise = np.random.default_rng(i).normal(0, 6, scene.image.shape)
            Image.fromarray((scene.image + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{i}.jpg", quality=90)
            Image.fromarray(np.where(scene.mask == 255, 0, scene.mask)).save(folder / f"{i}.png")
        return "drawn scenes with noise"
    with extraction.opened(archive) as contents:
        lines = contents.read(f"{camvid.FOLDER}train.txt").decode().splitlines()[:DIFFERENT]
        pairs = [[camvid.FOLDER + n.replace("/SegNet/CamVid/", "") for n in line.split()] for line in lines]
        place = {
            n: folder / f"{i}.{kind}" for i, p in enumerate(pairs) for n, kind in zip(p, ("jpg", "png"), strict=True)
        }
        for name, content in contents.files(set(place)):
            place[name].write_bytes(content)
    for path in place.values():
        jpeg = path.suffix == ".jpg"
        picture = Image.open(path).convert("RGB" if jpeg else "L")
        picture = picture.resize(SIZE, Image.Resampling.BICUBIC if jpeg else Image.Resampling.NEAREST)
        picture.save(path, quality=90) if jpeg else picture.save(path)
    return "CamVid's photographs"


def samples(folder: Path, count: int) -> list[Sample]:
    """The same 250 files again and again, under new names."""
    return [Sample(str(i), folder / f"{i % DIFFERENT}.jpg", folder / f"{i % DIFFERENT}.png") for i in range(count)]


def limit(folder: Path) -> float:
    """Images and masks that one core decodes in a second, if it does nothing else."""
    start = time.perf_counter()
    for sample in samples(folder, 2 * DIFFERENT):
        for path in (sample.image, sample.mask):
            with Image.open(path) as picture:
                picture.load()
    return 2 * DIFFERENT / (time.perf_counter() - start)


def written(folder: Path, count: int) -> float:
    """Images and masks of the target's size that one core writes into a new file in a second."""
    width, height = map(int, TARGET.split("x"))
    pixels = np.random.default_rng(0).integers(0, 256, width * height * 4, np.uint8).data
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(count):
            file.write(pixels)
        file.flush()
        return count / (time.perf_counter() - start)


def packed(folder: Path, count: int) -> tuple[float, int]:
    """Images a second of the whole stage's work from a fresh process, and the most MiB of it and of all its workers."""
    command = [sys.executable, "-m", "benchmarks.resize", "--pack", str(folder), "--count", str(count)]
    seconds, gigabytes = map(float, subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split())
    return count / seconds, round(gigabytes * 1e9 / 2**20)


def pack(folder: Path, count: int) -> None:
    machine.prepare()  # as the stage does
    labels = CAMVID if (folder / "camvid").exists() else SCENES
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        packing.pack(samples(folder, count), labels, TARGET, False, "train", Path(out))
        seconds = time.perf_counter() - start
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9  # of the largest
    print(seconds, peak_gigabytes() + machine.cores() * worker)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pack", type=Path, help="only pack the photographs of this folder")
    given = parser.parse_args()
    if given.pack:
        return pack(given.pack, given.count)
    few, cores = given.count // 8, machine.cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = photographs(folder)
        if "CamVid" in what:
            (folder / "camvid").touch()
        memory = {few: packed(folder, few)[1]}
        rounds = []
        for _ in range(given.rounds):
            alone, writes = limit(folder), written(folder, given.count)
            speed, memory[given.count] = packed(folder, given.count)
            rounds.append((speed, alone, writes))
            print(f"{speed:.0f} images/s; one core decodes {alone:.0f}/s, writes {writes:.0f}/s")
    speed, alone, writes = max(rounds)
    result = facts() | {
        "what": f"{given.count} of {what}, {SIZE[0]}x{SIZE[1]} JPEG and PNG mask, to {TARGET}",
        "images_per_second": round(speed),
        "decoded_per_second_by_one_core": round(alone),
        "written_per_second_by_one_core": round(writes),
        "share_of_the_limit": round(speed / cores * (1 / alone + 1 / writes), 3),
        "memory_mib": memory,
    }
    record(RESULTS, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
