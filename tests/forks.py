"""Stages, `fcn` and `dvc` in forks of one process that has imported torch, MLflow and DVC.

A stage of a test's size computes for a moment and imports for five seconds, and a test that runs the pipeline twice
would wait for 16 of these; most commands of DVC import for half a second and work for a tenth. `folder()` contains a
`python`, an `fcn` and a `dvc` to put first on PATH. They hand `python -m stages.NAME`, `python -c PROGRAM`, `fcn …` and
`dvc …` to that process, which forks. The fork has the caller's folder,
environment, arguments and open files, and imports the code of the checkout in which it runs. Everything else goes to
the real Python, and so does a caller that sets another number of threads, which are fixed when torch is imported.

Tests that kill a stage, or look for its process, must not use it: the fork is no child of DVC.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from fcn.runtime import machine

LIBRARIES = (
    "torchvision",
    "pandas",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "safetensors.torch",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.system_metrics.system_metrics_monitor",
    "dvc.cachemgr",
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.dirs",
    "dvc.repo.artifacts",
    "dvc.repo.datasets",
    "dvc.repo.graph",
    "dvc.repo.index",
    "dvc.repo.open_repo",
    "dvc.repo.plots",
    "dvc.repo.stage",
    "dvc.repo.trie",
    "dvc.repo.experiments.queue.celery",
    "dvc.repo.experiments.queue.tempdir",
    "dvc.repo.experiments.queue.workspace",
    "dvc.utils.strictyaml",
    "dvc_data.hashfile.db.local",
    "dvc_data.hashfile.status",
    "dvc_data.index.checkout",
    "dulwich.ignore",
    "dulwich.worktree",
    "fsspec.implementations.memory",
    "networkx",
    "platformdirs.unix",
    "ruamel.yaml",
    "pygit2",
)
CLIENT = """#!{python} -ISB
import os, signal, socket, sys
name, words, real = {name!r}, sys.argv[1:], {real!r}
known = name != "python" or words[:1] == ["-c"] or (words[:1] == ["-m"] and words[1].startswith("stages."))
if not known or os.environ.get("OMP_NUM_THREADS", {default!r}) != {threads!r}:
    os.execv(real, [real, *words])
import json
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    signal.signal(signal.SIGTERM, lambda *_: server.send(b"T"))
    signal.signal(signal.SIGINT, lambda *_: server.send(b"I"))
    call = json.dumps([name, words, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    answer = server.recv(16)
if not answer:
    sys.exit("tests/forks.py: the process that forks has ended")
code = int(answer)
if code < 0:
    if -code != signal.SIGKILL:  # which no process can ignore, nor say that it does not
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@cache
def folder(threads: int = machine.cores()) -> Path:
    """The folder with `python`, `fcn` and `dvc`; the process behind them ends with this one.

    threads  those of callers: with another OMP_NUM_THREADS they get the real programs
    """
    place = Path(tempfile.mkdtemp(prefix="fcn-forks-"))
    address = str(place / "socket")
    bin_folder = Path(sys.executable).parent
    for name in ("python", "fcn", "dvc"):
        script = place / name
        script.write_text(
            CLIENT.format(
                python=sys.executable,
                name=name,
                address=address,
                real=str(bin_folder / name),
                threads=str(threads),
                default=str(machine.cores()),
            )
        )
        script.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "DVC_", "FCN_", "MLFLOW_"))}
    environment = kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(Path(__file__).parent.parent)}
    environment["OMP_NUM_THREADS"] = str(threads)
    server = subprocess.Popen(
        [sys.executable, __file__, address], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(server.kill)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return place


def serve(address: str) -> None:
    """Forks for every call, until the process that started this one ends."""
    machine.prepare()
    for library in LIBRARIES:
        importlib.import_module(library)
    for name in [name for name in sys.modules if name.partition(".")[0] == "fcn"]:
        del sys.modules[name]  # each fork has its own checkout's
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    base = [path for path in sys.path[2:] if path not in given]
    assert threading.active_count() == 1, "a fork has one thread"
    gc.freeze()  # what is imported stays shared: no collection in a fork looks at it
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:  # at its parent's end stdin is closed
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            handle(connection, base)
        connection.close()


def handle(connection: socket.socket, base: list[str]) -> None:
    """Runs one call in a fork of its own, passes signals on, and answers with its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    size, call = int.from_bytes(head, "big"), b""
    while len(call) < size:
        call += connection.recv(size - len(call))
    worker = os.fork()
    if worker == 0:
        connection.close()
        run(json.loads(call), descriptors, base)
    for descriptor in descriptors:
        os.close(descriptor)

    def listen() -> None:
        with suppress(OSError):
            while word := connection.recv(1):
                os.kill(worker, {b"T": signal.SIGTERM, b"I": signal.SIGINT}[word])
            os.kill(worker, signal.SIGKILL)  # the caller was killed

    threading.Thread(target=listen, daemon=True).start()
    _, status = os.waitpid(worker, 0)
    with suppress(OSError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def run(call: Any, descriptors: list[int], base: list[str]) -> None:
    """What Python does for `python -m NAME`, `python -c PROGRAM` or the scripts `fcn` and `dvc`."""
    name, words, place, environment = call
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(place)
    own = {key: os.environ[key] for key in os.environ if key.startswith(("OMP_", "GOMP_", "CUBLAS_"))}
    own = {} if name == "dvc" else own
    os.environ.clear()
    os.environ.update(own | environment)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*([place] if name == "python" else []), *paths, *base]
    sys.argv = [words[0] if words[0] == "-c" else words[1], *words[2:]] if name == "python" else [name, *words]
    code = 0
    try:
        if name == "fcn":
            from fcn.__main__ import main

            main()
        elif name == "dvc":
            from dvc.cli import main as dvc

            sys.exit(dvc())
        elif words[0] == "-c":
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does at its end
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
