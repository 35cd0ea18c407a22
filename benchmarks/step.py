"""Training step and prediction of FCN-8s compared with torchfcn's, alternating in one run.

    python -m benchmarks.step [--rounds 7] [--cases 224x224x21 375x500x21 375x500x151]

Prints a table and writes benchmarks/results/step-DEVICE.json. Times are medians; the ratio is
the median over rounds of peer time / our time. GFLOP/s count the multiplications and additions that are
executed; the limit is the forward pass of the net's fastest 3×3 layer in the same precision. Memory is the peak
of a process that only trains. Each side runs in its own process, the peer without fcn's malloc and OpenMP settings.
"""

from fcn.runtime import machine

machine.prepare()

import argparse  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from contextlib import ExitStack  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks import sides  # noqa: E402
from benchmarks.ours import Work, our_net, our_predict, our_step  # noqa: E402
from benchmarks.record import facts, record  # noqa: E402
from fcn.models import FCN  # noqa: E402

CASES = ("224x224x21", "375x500x21", "224x224x151", "375x500x151")
SIDES = ("fp32", "bf16")


def alternating(works: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side; the sides alternate in every round, so that other load affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for i in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if i:  # the first warms up
                times[name].append(time.perf_counter() - began)
    return times


def flops(work: Work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def limit(net: FCN, height: int, width: int) -> float:
    """FLOP/s of the fastest 3×3 layer, forward, at the sizes that occur in the net."""
    best = 0.0
    calls: list[tuple[nn.Conv2d, Tensor, int]] = []

    def note(layer: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        calls.append((layer, inputs[0].detach().clone(), output.numel()))

    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, height, width, device=machine.device()))
        for hook in hooks:
            hook.remove()
        for layer, x, outputs in calls:
            work = 2 * 9 * layer.in_channels * outputs
            for _ in range(4):
                began = time.perf_counter()
                layer(x).flatten()[0].item()
                best = max(best, work / (time.perf_counter() - began))
    return best


def measure(case: str, rounds: int) -> dict[str, Any]:
    height, width, classes = map(int, case.split("x"))
    row: dict[str, Any] = {}
    for what in ("train", "predict"):
        with ExitStack() as stack:
            works: dict[str, Work] = {"torchfcn": stack.enter_context(sides.process("peer", what, case))}
            works |= {side: stack.enter_context(sides.process("ours", side, what, case)) for side in SIDES}
            times = alternating(works, rounds)
            if what == "train":
                row["memory"] = {side: work() for side, work in works.items()}
        found: dict[str, Any] = {"torchfcn": {"seconds": statistics.median(times["torchfcn"])}}
        for side in SIDES:
            image, _ = sides.image(case)
            net, optimizer = our_net(classes, side)
            seconds = statistics.median(times[side])
            work = flops(our_step(net, optimizer, image) if what == "train" else our_predict(net, image))
            found[side] = {
                "seconds": seconds,
                "ratio": statistics.median(a / b for a, b in zip(times["torchfcn"], times[side], strict=True)),
                "gflop": work / 1e9,
                "gflops": work / seconds / 1e9,
                "share_of_limit": work / seconds / limit(net, height, width),
            }
        row[what] = found
    return row


def table(results: dict[str, Any], before: dict[str, Any]) -> str:
    """The results next to the committed ones."""
    lines = [f"{'case':12} {'':8} {'side':9} {'seconds':>8} {'ratio':>6} {'GFLOP/s':>8} {'of limit':>8}  was"]
    for case, row in results["cases"].items():
        for what, found in row.items():
            if what == "memory":
                continue
            for side, cell in found.items():
                line = f"{case:12} {what:8} {side:9} {cell['seconds']:8.3f}"
                if side != "torchfcn":
                    old = before.get("cases", {}).get(case, {}).get(what, {}).get(side, {}).get("ratio")
                    line += f" {cell['ratio']:5.1f}× {cell['gflops']:8.0f} {cell['share_of_limit']:8.0%}"
                    line += f"  {old:.1f}×" if old else "  –"
                lines.append(line)
        if "memory" in row:
            lines.append(f"{case:12} {'memory':8} " + ", ".join(f"{s} {gb:.2f} GB" for s, gb in row["memory"].items()))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="HEIGHTxWIDTHxCLASSES")
    arguments = parser.parse_args()
    path = Path("benchmarks/results") / f"step-{machine.device().type}.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    results = facts() | {"rounds": arguments.rounds, "peer": "torchfcn 1.9.7, fp32", "cases": {}}
    for case in arguments.cases:
        results["cases"][case] = measure(case, arguments.rounds)
    print(table(results, before))
    record(path, results)


if __name__ == "__main__":
    main()
