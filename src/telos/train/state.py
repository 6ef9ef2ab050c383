"""Where a run stands: everything that decides how it goes on, as plain data and named tensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from telos.batch import Place
from telos.data.loader import LoaderPlan
from telos.errors import CheckpointError
from telos.train.checkpoint import bare
from telos.train.precision import Precision

__all__ = [
    "Best",
    "Counters",
    "Mark",
    "RunState",
    "flattened",
    "optimizer_state",
    "restore_optimizer",
    "unflattened",
]


@dataclass(slots=True)
class Counters:
    """What was trained on, exactly."""

    tokens: int = 0
    """Places that held a token, padding left out."""
    asked: float = 0.0
    """Weight of all that was asked."""
    rows: int = 0
    samples: int = 0
    skipped: int = 0
    """Steps that changed nothing: a non-finite loss or gradient, or nothing asked."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best validation so far."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the run, to measure from."""

    tokens: int
    seconds: float
    share: float

    def speed_since(self, before: "Mark") -> float:
        """Tokens per second of training."""
        seconds = self.seconds - before.seconds
        return (self.tokens - before.tokens) / seconds if seconds > 0 else 0.0


@dataclass(slots=True)
class RunState:
    """Where a run stands after `step` steps."""

    precision: Precision
    step: int = 0
    batch: int = 0
    """Rows in a step; 0 for as many as the recipe says."""
    passes: float = 0.0
    """How long the run was to be when it began, in passes over the text; 0 where nothing hangs on it."""
    place: Place = field(default_factory=Place)
    epochs: float = 0.0
    """Epochs done, with the share of the one that is under way."""
    seconds: float = 0.0
    """Time spent in training steps, over all attempts; evaluation and saving left out."""
    counters: Counters = field(default_factory=Counters)
    bad_in_a_row: int = 0
    """Non-finite steps since the last finite one."""
    best: Best | None = None
    micro_batch: int | None = None
    """Rows that go through the model at once, 0 for all, once that is settled."""
    compiled: bool | None = None
    """Whether blocks are compiled, once that is settled."""
    evaluated: int = -1
    """The step of the last evaluation."""
    tally: dict[str, float] = field(default_factory=dict)
    """Summed loss per term since the last line was logged."""
    asked: dict[str, float] = field(default_factory=dict)
    """Weight asked per term since then."""

    def table(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def as_begun(self, plan: LoaderPlan) -> LoaderPlan:
        """The plan by which the run began, whatever a larger budget would take; noted where it was not."""
        self.batch, self.passes = self.batch or plan.batch, self.passes or plan.passes
        return replace(plan, batch=self.batch, passes=self.passes)

    @staticmethod
    def of(table: Mapping[str, Any]) -> "RunState":
        """From what `table` gave."""
        rest = dict(table)
        place, counters = Place(**rest.pop("place")), Counters(**rest.pop("counters"))
        noted = rest.pop("best")
        best = None if noted is None else Best(**noted)
        return RunState(**rest, place=place, counters=counters, best=best)


def optimizer_state(
    optimizer: torch.optim.Optimizer, names: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state by the parameters' names: tensors as `key/parameter`, and the rest."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for name, parameter in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{key}/{name}"] = value
            else:
                plain[f"{key}/{name}"] = value
    return tensors, plain


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    plain: Mapping[str, Any],
) -> None:
    """Put back what `optimizer_state` gave, bit for bit and in the same dtypes.

    Raises:
        CheckpointError: it is the state of parameters that are not there.
    """
    # Not through `load_state_dict`: that casts the state to the parameter's dtype.
    on_device = {id(p) for g in optimizer.param_groups if _steps_on_device(g) for p in g["params"]}
    for full, value in [*tensors.items(), *plain.items()]:
        key, _, name = full.partition("/")
        if name not in names:
            raise CheckpointError(
                f"The checkpoint has optimizer state for {name}, which is not trained here."
            )
        parameter = names[name]
        if isinstance(value, Tensor):
            stays = value.ndim == 0 and id(parameter) not in on_device
            value = value.clone() if stays else value.to(parameter.device, copy=True)
        optimizer.state[parameter][key] = value


def _steps_on_device(group: Mapping[str, Any]) -> bool:
    """Whether a group's step counters live on the device;
    PyTorch's optimizers otherwise keep them on the host.
    """
    return bool(group.get("fused") or group.get("capturable"))


def parameters(models: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Every parameter that is trained, by model and name, shared ones once."""
    named = (
        (f"{label}.{name}", p)
        for label, model in models.items()
        for name, p in bare(model).named_parameters()
    )
    return {name.replace("_orig_mod.", ""): parameter for name, parameter in named if parameter.requires_grad}


def flattened(state: Any, name: str = "s") -> tuple[Any, dict[str, Tensor]]:
    """Carried state as a skeleton of plain data and its tensors by name."""
    if isinstance(state, Tensor):
        return {"tensor": name}, {name: state}
    if isinstance(state, list | tuple):
        assert type(state) in (list, tuple), f"carried state may not hold a {type(state).__name__}"
        parts = [flattened(part, f"{name}.{index}") for index, part in enumerate(state)]
        tensors = {key: tensor for _, found in parts for key, tensor in found.items()}
        return {type(state).__name__: [skeleton for skeleton, _ in parts]}, tensors
    if isinstance(state, dict):
        inner = {key: flattened(part, f"{name}.{key}") for key, part in state.items()}
        tensors = {key: tensor for _, found in inner.values() for key, tensor in found.items()}
        return {"dict": {key: skeleton for key, (skeleton, _) in inner.items()}}, tensors
    assert state is None or isinstance(state, int | float | str | bool), f"carried state: {type(state)}"
    return {"plain": state}, {}


def unflattened(skeleton: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    """What `flattened` took apart, on `device`."""
    kind, content = next(iter(skeleton.items()))
    if kind == "tensor":
        return tensors[content].to(device)
    if kind == "list":
        return [unflattened(part, tensors, device) for part in content]
    if kind == "tuple":
        return tuple(unflattened(part, tensors, device) for part in content)
    if kind == "dict":
        return {key: unflattened(part, tensors, device) for key, part in content.items()}
    return content


def detached(state: Any) -> Any:
    """Carried state without its history: gradients stop at the edge of a window. Named tuples become plain
    ones, which a checkpoint can hold."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, list | tuple):
        return (list if isinstance(state, list) else tuple)(detached(part) for part in state)
    if isinstance(state, dict):
        return {key: detached(part) for key, part in state.items()}
    return state
