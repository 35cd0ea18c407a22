"""How far it is: a bar on a terminal, plain lines where the output goes to a file."""

import sys
import time
from typing import Self

from tqdm import tqdm

BAR = "{desc}  {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} steps{postfix}, {remaining} left"


class Progress:
    """Reports steps with their loss, images per second and the time left; nothing at all if quiet."""

    def __init__(self, name: str, total: int, done: int, batch_size: int, quiet: bool = False) -> None:
        self.name, self.total, self.done, self.batch_size = name, total, done, batch_size
        self.began, self.begun_at, self.spoke = time.monotonic(), done, time.monotonic()
        self.quiet, drawn = quiet, sys.stderr.isatty() and not quiet
        self.bar = tqdm(total=total, initial=done, desc=name, bar_format=BAR) if drawn else None

    def step(self, loss: float, every: float = 10.0) -> None:
        """One step more; without a terminal a line every ten seconds, and at the end."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.3f}, {self._speed():.0f} images/s", refresh=False)
            self.bar.update()
        elif time.monotonic() - self.spoke > every or self.done == self.total:
            self.spoke = time.monotonic()
            left = (self.total - self.done) * self.batch_size / max(self._speed(), 1e-9)
            self.say(
                f"{self.done}/{self.total} steps, loss {loss:.3f}, {self._speed():.0f} images/s, {left:.0f} s left"
            )

    def say(self, text: str) -> None:
        """A line that does not disturb the bar."""
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
        return (self.done - self.begun_at) * self.batch_size / max(time.monotonic() - self.began, 1e-9)
