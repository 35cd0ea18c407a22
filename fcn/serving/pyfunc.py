"""The MLflow pyfunc model: takes files in base64, returns masks and the fraction of pixels of each class.

This file uses MLflow's models-from-code: MLflow copies it beside the weights and runs it when it loads the model, with
the package fcn as it was when the model was registered. It therefore ends with `set_model`, and nothing else in the
project imports it.
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
    """A bad request or an error of the server, in one line.

    MLflow prepends the whole input to the message of an exception from `predict`. The original line is kept
    separately, and restored when the exception is serialized.
    """

    def __init__(self, line: str, code: int = BAD_REQUEST) -> None:
        super().__init__(line, code)
        self._line = line

    def serialize_as_json(self) -> str:
        self.message = self._line
        return str(super().serialize_as_json())  # type: ignore[no-untyped-call]


def _glibc() -> ctypes.CDLL | None:
    """glibc, set to use a single memory arena for all threads; None on other systems.

    `fcn.runtime.machine.prepare` makes the process keep freed memory, in one arena per thread. A server with many
    threads would hold many times what it needs. So there is one arena, which is trimmed after each request.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        return None
    libc.mallopt(M_ARENA_MAX, 1)
    return libc


class Segmenter(PythonModel):
    """Takes and returns the records described in fcn.serving.response."""

    def load_context(self, context: Any) -> None:
        from fcn.runtime import machine

        machine.prepare()
        self.libc = _glibc()
        from fcn.inference import prediction

        self.net, self.labels, scale = prediction.load(Path(context.artifacts["weights"]))
        self.target = scale.target
        # One request at a time, in one thread: torch uses all cores for it, and memory is limited to one request's.
        self.executor = ThreadPoolExecutor(1)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        from fcn.serving.response import segment
        from fcn.serving.stopping import StoppedError

        records: Any = model_input.to_dict("records")
        try:  # the context contains the time limit of this request
            context_run = copy_context().run
            return self.executor.submit(context_run, segment, self.net, self.labels, records, self.target).result()
        except StoppedError as stopped:
            raise Refusal(str(stopped), DEADLINE_EXCEEDED) from None
        except UserError as error:
            raise Refusal(str(error)) from None
        except Exception as error:  # a bug, or out of memory: the traceback goes to the log, and the client gets 500
            logging.getLogger("fcn").exception("a request failed")
            raise Refusal(f"the server failed ({type(error).__name__}); see its log", INTERNAL_ERROR) from None
        finally:
            if self.libc:
                self.libc.malloc_trim(0)


mlflow.models.set_model(Segmenter())
