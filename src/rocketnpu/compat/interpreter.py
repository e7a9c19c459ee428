"""Drop-in for the LiteRT Python Interpreter (`ai_edge_litert.interpreter.Interpreter`) that runs on the NPU.

What LiteRT says of a model (indices, names, shapes, dtypes, quantization, signatures) is asked of LiteRT itself; what
runs is a Session. Tensors between operators exist only with `experimental_preserve_all_tensors=True`, as in LiteRT.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.cpu.litert import check_input
from rocketnpu.cpu.litert.interpreter import litert_errors
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_tflite
from rocketnpu.frontends.files import read_file
from rocketnpu.runtime.device import Device
from rocketnpu.runtime.session import ALL, Session

_litert: Any = importlib.import_module("ai_edge_litert.interpreter")

Details = dict[str, Any]


class InterpreterError(ModelError, ValueError, RuntimeError):
    """A bad model, tensor or order of calls; also what LiteRT would raise, so that code which catches that works."""


class Interpreter:
    """A TFLite model behind LiteRT's interface: allocate_tensors, set_tensor, invoke, get_tensor."""

    def __init__(
        self,
        model_path: str | PathLike[str] | None = None,
        model_content: bytes | None = None,
        experimental_delegates: Sequence[Any] | None = None,  # noqa: ARG002 - the NPU is where delegates would lead
        num_threads: int | None = None,  # noqa: ARG002 - tunes LiteRT's kernels; `cores` is what tunes the NPU
        experimental_op_resolver_type: Any = None,  # noqa: ARG002 - chooses among LiteRT's kernels
        experimental_preserve_all_tensors: bool = False,
        *,
        device: str | Device = "auto",
        cores: int = 1,
        **litert_options: Any,
    ):
        """The model is a path or its bytes; `device` and `cores` are those of Session.

        Other arguments of LiteRT's (`experimental_*`) tune how LiteRT runs a model and can't change its results; they
        are taken and have no effect here. Raises InterpreterError for a bad model, TypeError for an unknown argument.
        """
        unknown = [name for name in litert_options if not name.startswith("experimental_")]
        if unknown:
            raise TypeError(f"Interpreter() got an unexpected keyword argument {unknown[0]!r}")
        if (model_path is None) == (model_content is None):
            raise InterpreterError("give either model_path or model_content")
        name = "the model" if model_path is None else Path(model_path).name
        self._device, self._cores = device, cores
        self._keep_all = experimental_preserve_all_tensors
        try:
            self._model = read_file(model_path) if model_path is not None else bytes(model_content or b"")
            graph = load_tflite(self._model, name)
        except ModelError as error:
            raise InterpreterError(str(error)) from error
        with litert_errors(InterpreterError, "LiteRT refuses the model"):
            self._litert = _litert.Interpreter(
                model_content=self._model, experimental_op_resolver_type=_litert.OpResolverType.BUILTIN_REF
            )
        self._tensors = list(graph.tensors.values())
        self._index = {name: index for index, name in enumerate(graph.tensors)}
        self._inputs = {self._index[name]: graph.tensors[name] for name in graph.inputs}
        self._outputs = [self._index[name] for name in graph.outputs]
        self._values: dict[int, NDArray[Any]] = {}
        self._session: Session | None = None

    def allocate_tensors(self) -> None:
        """Compile the model, open the device and zero the inputs and outputs. A second call changes nothing.

        Raises InterpreterError for a model that can't be compiled, DeviceError when the device fails.
        """
        if self._session is not None:
            return
        fetch = ALL if self._keep_all else ()
        self._session = Session(self._model, self._device, cores=self._cores, fetch=fetch)
        for index in (*self._inputs, *self._outputs):
            tensor = self._tensors[index]
            self._values[index] = np.zeros([max(size, 0) for size in tensor.shape], tensor.dtype)

    def get_input_details(self) -> list[Details]:
        """One dictionary for each input, with LiteRT's keys: name, index, shape, dtype, quantization ..."""
        return self._litert.get_input_details()

    def get_output_details(self) -> list[Details]:
        """One dictionary for each output; see get_input_details."""
        return self._litert.get_output_details()

    def get_tensor_details(self, subgraph_index: int = 0) -> list[Details]:
        """One dictionary for each tensor of the file; see get_input_details."""
        with litert_errors(InterpreterError, "no such details"):
            return self._litert.get_tensor_details(subgraph_index)

    def set_tensor(self, tensor_index: int, value: ArrayLike) -> None:
        """Copy `value` (the input's own shape and dtype) into an input; raises InterpreterError for anything else."""
        tensor = self._inputs.get(self._checked(tensor_index))
        self._allocated()
        if tensor is None:
            raise InterpreterError(
                f"tensor {self._tensors[tensor_index].name} is no input of the model: it can't be set"
            )
        array: NDArray[Any] = np.asarray(value)
        if array.dtype != tensor.dtype and not tensor.dtype.hasobject:
            raise InterpreterError(f"input {tensor.name} needs {tensor.dtype}; {array.dtype} was given")
        try:
            self._values[tensor_index] = check_input(tensor, array).copy()
        except ModelError as error:
            raise InterpreterError(str(error)) from error

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> NDArray[Any]:
        """A copy of an input, output or constant; of any tensor if all are preserved. The main subgraph only."""
        if subgraph_index:
            raise InterpreterError("only the tensors of the main subgraph can be read")
        return self._value(tensor_index).copy()

    def tensor(self, tensor_index: int) -> Callable[[], NDArray[Any]]:
        """A function that gives the tensor's current array; writing into an input's array sets it.

        Arrays of outputs are the ones of the last run: a later run makes new ones.
        """
        return lambda: self._value(tensor_index)

    def invoke(self) -> None:
        """Run the model once. Raises InterpreterError before allocate_tensors, DeviceError when the device fails."""
        session = self._allocated()
        inputs = {tensor.name: self._values[index] for index, tensor in self._inputs.items()}
        results = session.run(inputs, fetch=ALL if self._keep_all else ())
        self._values.update({self._index[name]: value for name, value in results.items()})

    def reset_all_variables(self) -> None:
        """Let the next run begin with the state that the model starts from: variables, LSTM cells."""
        self._allocated().reset_state()

    def resize_tensor_input(
        self,
        input_index: int,
        tensor_size: Sequence[int],
        strict: bool = False,  # noqa: ARG002 - says which sizes may change; here none may
    ) -> None:
        """Accepts the shape that the input has; any other raises InterpreterError: programs have one shape."""
        tensor = self._tensors[self._checked(input_index)]
        if tuple(int(size) for size in tensor_size) != tensor.shape:
            raise InterpreterError(
                f"input {tensor.name} has shape {tensor.shape}: a compiled model can't be resized to "
                f"{tuple(tensor_size)}; convert it with that shape"
            )

    def num_subgraphs(self) -> int:
        """Number of subgraphs in the file."""
        return self._litert.num_subgraphs()

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """Names of inputs and outputs of every signature."""
        return self._litert.get_signature_list()

    def get_signature_runner(self, signature_key: str | None = None) -> SignatureRunner:
        """A function of the signature's inputs; the key may be left out, as one signature is all that is supported."""
        signatures = self.get_signature_list()
        if len(signatures) != 1 or signature_key not in (None, *signatures):
            raise InterpreterError(
                f"the model has {len(signatures)} signatures ({', '.join(signatures)}); a runner needs exactly one, "
                f"and {signature_key!r} was asked for"
            )
        return SignatureRunner(self, self._litert.get_signature_runner(signature_key))

    def close(self) -> None:
        """Give the device back (LiteRT has no such call); allocate_tensors opens it again."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._values.clear()

    def _allocated(self) -> Session:
        if self._session is None:
            raise InterpreterError("the tensors are not allocated; call allocate_tensors first")
        return self._session

    def _checked(self, tensor_index: int) -> int:
        if not 0 <= tensor_index < len(self._tensors):
            raise InterpreterError(f"there is no tensor {tensor_index}; the model has {len(self._tensors)}")
        return tensor_index

    def _value(self, tensor_index: int) -> NDArray[Any]:
        tensor = self._tensors[self._checked(tensor_index)]
        if tensor_index in self._values:
            return self._values[tensor_index]
        if tensor.data is not None:
            return tensor.data
        self._allocated()
        raise InterpreterError(
            f"tensor {tensor.name} is not kept after a run; make the Interpreter with "
            "experimental_preserve_all_tensors=True"
        )


class SignatureRunner:
    """Calls a model by the names of its signature: `runner(x=array)` gives {output name: array}."""

    def __init__(self, interpreter: Interpreter, details: Any):
        self._interpreter = interpreter
        self._details = details

    def get_input_details(self) -> dict[str, Details]:
        """Details of the inputs by the signature's names."""
        return self._details.get_input_details()

    def get_output_details(self) -> dict[str, Details]:
        """Details of the outputs by the signature's names."""
        return self._details.get_output_details()

    def __call__(self, **inputs: ArrayLike) -> dict[str, NDArray[Any]]:
        """Run the model; raises InterpreterError unless the arguments are just the signature's inputs."""
        wanted = self.get_input_details()
        if inputs.keys() != wanted.keys():
            raise InterpreterError(f"the signature's inputs are {', '.join(wanted)}; {', '.join(inputs)} were given")
        self._interpreter.allocate_tensors()
        for name, value in inputs.items():
            self._interpreter.set_tensor(wanted[name]["index"], value)
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(detail["index"]) for name, detail in self.get_output_details().items()
        }
