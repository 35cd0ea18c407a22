"""Training progress: a progress bar on a terminal, plain lines if the output is redirected."""

import sys
import time
from typing import Self

from tqdm import tqdm

BAR = "{desc}  {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} steps{postfix}, {remaining} left"


class Progress:
    """Shows steps, loss, images per second and remaining time; silent if `quiet`."""

    def __init__(self, name: str, total: int, done: int, batch_size: int, quiet: bool = False) -> None:
        self.name, self.total, self.done, self.batch_size = name, total, done, batch_size
        self.start_time, self.start_step, self.last_line_time = time.monotonic(), done, time.monotonic()
        self.quiet, has_bar = quiet, sys.stderr.isatty() and not quiet
        self.bar = tqdm(total=total, initial=done, desc=name, bar_format=BAR) if has_bar else None

    def step(self, loss: float, every: float = 10.0) -> None:
        """Advances by one step. Without a terminal, prints a line every `every` seconds and at the last step."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.3f}, {self._speed():.0f} images/s", refresh=False)
            self.bar.update()
        elif time.monotonic() - self.last_line_time > every or self.done == self.total:
            self.last_line_time = time.monotonic()
            left = (self.total - self.done) * self.batch_size / max(self._speed(), 1e-9)
            self.write(
                f"{self.done}/{self.total} steps, loss {loss:.3f}, {self._speed():.0f} images/s, {left:.0f} s left"
            )

    def write(self, text: str) -> None:
        """Prints a line above the bar."""
        if self.quiet:
            return
        tqdm.write(f"{self.name}  {text}", file=sys.stdout)
        sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def _speed(self) -> float:
        return (self.done - self.start_step) * self.batch_size / max(time.monotonic() - self.start_time, 1e-9)
