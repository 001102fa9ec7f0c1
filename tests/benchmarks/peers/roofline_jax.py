"""The pieces of `roofline`: what they cost at least, how long they take, and where time goes.

A process times them in the places of a peer's (`timed_cases.serve`); besides every piece it has
"cost NAME" and "profile NAME", which are run once.
"""

import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.profiler import ProfileData

from common.nets.resnet import ResNet
from common.networks import from_stateful_linen
from finetune.statistics import evaluating, variables_of
from landscape.products import hessian_product
from tests.benchmarks import update_scaling
from tests.benchmarks.peers import anp_jax, landscape_case, nfn_jax, nft_jax, rlhf_jax, sciml_jax
from tests.benchmarks.peers.jax_cases import serve_jax
from tests.benchmarks.peers.operation_kinds import kind_of
from tests.benchmarks.peers.timed_cases import Case

STREAM = 2**25  # float32 numbers of an array that no cache holds
POINTS = 20_000  # of the conservation update
IMAGES = 128  # of a batch for ResNet-20


def stream_case() -> Case:
    """a x + y of arrays in memory, into the place of y: three numbers moved for each."""
    x, y = jnp.ones(STREAM, jnp.float32), [jnp.zeros(STREAM, jnp.float32)]
    move = jax.jit(lambda y, x: 0.5 * x + y, donate_argnums=0)

    def once() -> None:
        y[0] = jax.block_until_ready(move(y[0], x))

    return Case(once, flops=2.0 * STREAM)


def compiled_case(function: Callable[..., Any], *arguments: Any, units: int = 1) -> Case:
    """Calls a function that is compiled, again and again."""
    compiled = jax.jit(function)
    program = (compiled, arguments)
    return Case(lambda: jax.block_until_ready(compiled(*arguments)), units=units, program=program)


def resnet_case(*, backward: bool) -> Case:
    """ResNet-20 on a batch of CIFAR's size with running statistics; or the gradient of its loss."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(IMAGES, 32, 32, 3)), jnp.float32)
    y = jnp.asarray(random.integers(0, 10, IMAGES))
    network = from_stateful_linen(ResNet(20), x)
    variables = variables_of(*jax.jit(network.init)(jax.random.key(0)))
    apply = evaluating(network)

    def loss(variables: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply(variables, x), y).mean()

    if backward:
        return compiled_case(jax.grad(loss), variables, x, y)
    return compiled_case(apply, variables, x)


def hessian_case() -> Case:
    """A product with the Hessian of the mean over 1,000 images, slices of them in a loop."""
    rows = jax.tree.map(jnp.asarray, landscape_case.images())
    params = jax.jit(landscape_case.init)(jax.random.key(0))
    direction = jax.jit(landscape_case.init)(jax.random.key(1))

    def product(params: Any, rows: Any, direction: Any) -> Any:
        return hessian_product(landscape_case.loss, params, rows, direction)

    return compiled_case(product, params, rows, direction)


def update_case(name: str) -> Case:
    """A conservation update of `update_scaling`."""
    return compiled_case(update_scaling.CASES[name], *update_scaling.inputs_of(POINTS))


def pieces() -> dict[str, Callable[[], Case]]:
    """Returns the pieces by name; "forward" or not is part of it."""
    made: dict[str, Callable[[], Case]] = {}
    for kind in ("np", "hnp", "pt"):
        for what in ("forward", "both"):
            make = partial(nfn_jax.layer_case, kind, "64", backward=what == "both")
            made[f"{kind} layer {what}"] = make
    for what in ("forward", "both"):
        make = partial(nfn_jax.layer_case, "np", "512", backward=what == "both")
        made[f"np layer, 512 channels {what}"] = make
        for kind in ("attention", "block"):
            made[f"{kind} {what}"] = partial(nft_jax.case, kind, "64", backward=what == "both")
    made["np classifier step"] = nfn_jax.classifier_case
    made["siren fit step"] = partial(nfn_jax.siren_case, "polynomial")
    for size in ("fno1d", "fno2d"):
        for kind in ("plain", "boon"):
            name = f"{size}{' boon' if kind == 'boon' else ''}"
            made[f"{name} forward"] = partial(sciml_jax.forward_case, size, kind)
            made[f"{name} step"] = partial(sciml_jax.step_case, size, kind)
    made["anp step"] = partial(anp_jax.step_case, "anp step")
    made["resnet20 forward"] = partial(resnet_case, backward=False)
    made["resnet20 gradient"] = partial(resnet_case, backward=True)
    made["hessian product"] = hessian_case
    made["conservation update"] = partial(update_case, "one row")
    made["conservation update w/diff"] = partial(update_case, "w/diff")
    made["ppo environment step"] = partial(rlhf_jax.rl_case, "ppo")
    made["reward model step"] = partial(rlhf_jax.reward_case, 1, (32, 32))
    return made


def cost(case: Case) -> dict[str, Any]:
    """Returns the least FLOPs and bytes of a unit, and how they were counted.

    Flops are those of products: a formula where the case has one, else those of the traced program
    before XLA sees it. Bytes: what comes in is read once, what goes out is written once.
    """
    assert case.program is not None
    function, arguments = case.program
    traced = function.trace(*arguments)
    flops = case.flops or products(traced.jaxpr.jaxpr) / case.units
    moved = jax.tree.leaves((arguments, traced.out_info))
    size = sum(math.prod(x.shape) * _itemsize(x.dtype) for x in moved)
    counted = "a matrix for every set of groups at each of its positions" if case.flops else "trace"
    return {"flops": flops, "bytes": size / case.units, "counted": counted}


def _itemsize(dtype: Any) -> int:
    is_key = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    return 8 if is_key else np.dtype(dtype).itemsize


def products(jaxpr: Any) -> float:
    """Returns the FLOPs of all matrix products and convolutions, loops times their length.

    Zeros between the pixels of a strided gradient do not count; bodies of `while` count once.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            depth = math.prod(shape[axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * depth
        elif name == "conv_general_dilated":
            kernel = params["dimension_numbers"].rhs_spec
            shape = equation.invars[1].aval.shape
            taps = math.prod(shape[axis] for axis in kernel[1:])
            every = math.prod(params["lhs_dilation"])
            total += 2 * math.prod(equation.outvars[0].aval.shape) * taps / every
        else:
            inner = [products(body) for body in _bodies(params)]
            times = params["length"] if name == "scan" else 1
            total += times * (max(inner, default=0.0) if name == "cond" else sum(inner))
    return total


def _bodies(params: Mapping[str, Any]) -> list[Any]:
    leaves = jax.tree.leaves(list(params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
    return [getattr(leaf, "jaxpr", leaf) for leaf in leaves if hasattr(leaf, "eqns")]


def profile(run: Callable[[], Any]) -> dict[str, float]:
    """Returns which share of a run's time goes to what, of a trace of it."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        data = ProfileData.from_file(str(path))
    times: Counter[str] = Counter()
    kinds: dict[str, str] = {}  # of names that have been seen: there can be millions of events
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                kind = kinds.get(event.name)
                if kind is None:
                    is_ours = any(name == "hlo_op" for name, _ in event.stats)
                    kind = kinds[event.name] = kind_of(event.name) if is_ours else "loops"
                times[kind] += event.duration_ns
    del times["loops"]  # what is in them is told by itself
    total = sum(times.values())
    return {kind: time / total for kind, time in times.most_common()}


def main() -> None:
    threads = len(os.sched_getaffinity(0))
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={threads}"
    makers = pieces()
    made: dict[str, Case] = {}

    def of(name: str) -> Case:
        if name not in made:
            made[name] = makers[name]()
            made[name].run()
        return made[name]

    cases = {name: partial(of, name) for name in makers}
    for name in makers:
        cases[f"cost {name}"] = lambda name=name: Case(lambda: cost(of(name)))
        cases[f"profile {name}"] = lambda name=name: Case(lambda: profile(of(name).run))
    serve_jax({"stream": stream_case, **cases}, pieces=list(makers))


if __name__ == "__main__":
    main()
