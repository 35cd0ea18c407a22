"""Many clients at once at `fcn serve`: every good image must get the mask of `fcn predict`, every broken one a 400.

    fcn register && python benchmarks/serving.py --requests 200 --clients 8 --largest 4000x3000

Starts a server of its own on a free port, ends it, and exits with 1 if one answer is wrong or the server's
memory passed --memory MB. Every fourth request is broken, in twelve ways.
"""

import argparse
import base64
import io
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import requests
from PIL import Image

JSON = {"Content-Type": "application/json"}


def picture(rng: random.Random, width: int, height: int) -> Image.Image:
    """A smooth picture: a few random colours, enlarged."""
    coarse = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def request(content: bytes) -> bytes:
    return json.dumps({"dataframe_records": [{"image": base64.b64encode(content).decode()}]}).encode()


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def broken(number: int, rng: random.Random) -> bytes:
    """A request that must be refused, of the kind that its number says."""
    whole = encoded(picture(rng, 300, 200), "JPEG")
    bomb = encoded(Image.new("1", (9000, 9000)), "PNG")  # 81 million pixels in 10 kB
    return [
        request(whole[: len(whole) // 2]),  # cut off
        request(b"this is no picture"),
        request(b""),
        request(bomb),
        b'{"dataframe_records": [{"image": "=not base64="}]}',
        b'{"dataframe_records": [{"photo": "AAAA"}]}',
        b'{"dataframe_records": [{"image": 7}]}',
        b'{"dataframe_records": []',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"pictures": "AAAA"}',
        request(bytes(40 << 20)),  # larger than may be
    ][number % 12]


def make(folder: Path, count: int, largest: tuple[int, int], rng: random.Random) -> dict[str, bytes]:
    """Good images: the smallest, the largest, and sizes between, each a file and its bytes."""
    sizes = [(1, 1), largest]
    while len(sizes) < count:
        part = rng.random() ** 6  # most of them small: the whole must end
        sizes.append((max(1, round(largest[0] * part)), max(1, round(largest[1] * part * rng.uniform(0.5, 1)))))
    files = {}
    for i, (width, height) in enumerate(sizes[:count]):
        kind = rng.choice(["JPEG", "PNG"])
        name = f"{i:03}.{kind.lower()}"
        files[name] = encoded(picture(rng, width, height), kind)
        (folder / name).write_bytes(files[name])
    return files


def ask(url: str, body: bytes) -> tuple[requests.Response, float]:
    began = time.monotonic()
    return requests.post(url, body, headers=JSON, timeout=900), time.monotonic() - began


def wrong(answer: requests.Response, expected: Path | None) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if expected is None:
        line = answer.text.strip()
        good = answer.status_code == 400 and "\n" not in line and len(line) < 500 and "Traceback" not in line
        return "" if good else f"{answer.status_code} {line[:200]} for a broken one"
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:200]} for {expected.stem}"
    (content,) = answer.json()["predictions"]
    mask = Image.open(io.BytesIO(base64.b64decode(content["mask"])))
    truth = Image.open(expected)
    same = mask.getpalette() == truth.getpalette() and np.array_equal(np.asarray(mask), np.asarray(truth))
    shares = np.bincount(np.asarray(truth).ravel(), minlength=len(content["classes"])) / (truth.width * truth.height)
    return "" if same and np.allclose(shares, content["shares"]) else f"another mask than fcn predict's for {expected}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--largest", default="4000x3000", metavar="WIDTHxHEIGHT")
    parser.add_argument("--model", default="data/weights/fcn8s.safetensors", help="what is registered")
    parser.add_argument("--memory", type=int, default=3000, metavar="MB", help="that the server may take")
    given = parser.parse_args()
    rng = random.Random(1)
    fcn = [sys.executable, "-m", "fcn"]
    with tempfile.TemporaryDirectory() as folder:
        images, masks = Path(folder, "images"), Path(folder, "masks")
        images.mkdir()
        width, height = map(int, given.largest.split("x"))
        bad = max(12, given.requests // 4)
        files = make(images, given.requests - bad, (width, height), rng)
        subprocess.run([*fcn, "predict", images, "--out", masks, "--model", given.model], check=True)
        jobs = [(request(content), masks / f"{Path(name).stem}.png") for name, content in files.items()]
        jobs += [(broken(i, rng), None) for i in range(bad)]  # type: ignore[list-item]
        rng.shuffle(jobs)
        with subprocess.Popen([*fcn, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
            try:
                line = server.stdout.readline()  # type: ignore[union-attr]
                if not line:
                    sys.exit(1)  # it has said why
                url = re.findall(r"http\S+?(?=;)", line)[0]
                before = memory(server.pid, "VmRSS")
                began = time.monotonic()
                with ThreadPoolExecutor(given.clients) as clients:
                    answers = list(clients.map(lambda job: ask(url, job[0]), jobs))
                seconds = time.monotonic() - began
                peak = memory(server.pid, "VmHWM")
            finally:
                server.terminate()
        findings = [wrong(answer, expected) for (answer, _), (_, expected) in zip(answers, jobs, strict=True)]
    waited = sorted(taken for _, taken in answers)
    print(f"{len(jobs)} requests, {bad} of them broken, from {given.clients} clients, images up to {given.largest}:")
    print(f"  {seconds:.0f} s in all; median {statistics.median(waited):.2f} s, slowest {waited[-1]:.1f} s")
    print(f"  server's memory {before} MB at first, {peak} MB at most")
    findings = [text for text in findings if text]
    for text in findings:
        print(f"wrong: {text}")
    if peak > given.memory:
        print(f"wrong: more than {given.memory} MB")
    sys.exit(bool(findings) or peak > given.memory)


def memory(process: int, key: str) -> int:
    """MB of a process, as Linux counts them."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(rf"{key}:\s+(\d+) kB", status)[0]) // 1024


if __name__ == "__main__":
    main()
