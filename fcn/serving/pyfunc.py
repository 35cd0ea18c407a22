"""The model that MLflow stores and serves: images in base64 in, masks and shares of classes out.

MLflow's models-from-code: it copies this file beside the weights and runs it when it loads the model,
with the package fcn as it was when the model was registered. So it names its model at its end, as MLflow
asks for; nothing else of the project imports it.
"""

import ctypes
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, DEADLINE_EXCEEDED, INTERNAL_ERROR
from mlflow.pyfunc import PythonModel

from fcn.runtime.errors import UserError

M_ARENA_MAX = -8  # glibc's malloc.h


class Refusal(MlflowException):
    """A bad request, or our own failure, in one line.

    MLflow puts the whole input before the message of what `predict` raises: the message is kept apart.
    """

    def __init__(self, line: str, code: int = BAD_REQUEST) -> None:
        super().__init__(line, code)
        self._line = line

    def serialize_as_json(self) -> str:
        self.message = self._line
        return str(super().serialize_as_json())  # type: ignore[no-untyped-call]


def _glibc() -> ctypes.CDLL | None:
    """glibc, told to keep one pool of memory for all threads; None elsewhere.

    A process that computes keeps what it once had (fcn.runtime.machine.prepare), and in a pool for each thread: a
    server with many would hold many times what it needs. So one pool, whose free part goes back after each request.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        return None
    libc.mallopt(M_ARENA_MAX, 1)
    return libc


class Segmenter(PythonModel):
    """Column `image`: files in base64. Gives what fcn.serving.response says."""

    def load_context(self, context: Any) -> None:
        from fcn.runtime import machine

        machine.prepare()
        self.libc = _glibc()
        from fcn.inference import prediction

        self.net, self.labels, scale = prediction.load(Path(context.artifacts["weights"]))
        self.target = scale.target
        # One request at a time, in one thread: torch uses all cores for each, and memory stays that of one.
        self.turn = ThreadPoolExecutor(1)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        from fcn.serving.response import answers
        from fcn.serving.stopping import StoppedError

        images = list(model_input["image"])
        try:  # with the context, which has the limit of this request
            return self.turn.submit(copy_context().run, answers, self.net, self.labels, images, self.target).result()
        except StoppedError as stopped:
            raise Refusal(str(stopped), DEADLINE_EXCEEDED) from None
        except UserError as error:
            raise Refusal(str(error)) from None
        except Exception as error:  # a bug, or too little memory: the server's log says it all, the client gets 500
            logging.getLogger("fcn").exception("a request failed")
            raise Refusal(f"the server failed ({type(error).__name__}); its log says more", INTERNAL_ERROR) from None
        finally:
            if self.libc:
                self.libc.malloc_trim(0)


mlflow.models.set_model(Segmenter())
