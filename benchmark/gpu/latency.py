"""Latency of the network and of its stages in torch: eager, as a CUDA graph, compiled."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._dynamo
from torch import nn
from torch._dynamo.utils import counters

from benchmark.gpu.device import timed
from benchmark.gpu.networks import example, open_network, precision_context
from benchmark.gpu.plan import Save
from benchmark.speed.measure import summary

EAGER, GRAPH, COMPILED = 'eager', 'graph', 'compiled'
WHOLE = 'whole'
Call = Callable[[], object]
Result = dict[str, Any]


def measure_latency(
    args: argparse.Namespace, save: Save, *, precision: str, modes: Sequence[str], stages: bool
) -> None:
    """Save, mode by mode, a summary of the whole and of every stage; a mode that fails says so."""
    network = open_network(args.config, args.checkpoint, args.device)
    inputs = example(network, args.device)
    found: Result = {'modes': {}, 'weights': 'trained' if args.checkpoint else 'random'}
    with torch.inference_mode(), precision_context(precision, args.device):
        calls = {WHOLE: _Call(network, inputs, {})}
        if stages:
            calls |= _recorded_calls(network.model, calls[WHOLE])
        for mode in modes:
            parts: Result = {}
            found['modes'][mode] = parts
            for name, call in calls.items():
                parts[name] = _guarded(MODES[mode], call, args)
                save(found)
    if torch.device(args.device).type == 'cuda':
        found['memory_mb'] = round(torch.cuda.max_memory_allocated() / 2**20)
    save(found)


class _Call:
    """A module with the inputs that it gets in the network."""

    def __init__(
        self, module: Callable[..., object], inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        self.module, self.inputs, self.named = module, inputs, named

    def __call__(self) -> object:
        return self.module(*self.inputs, **self.named)


def _recorded_calls(model: nn.Module, whole: _Call) -> dict[str, _Call]:
    """Run once; return each part of the network with its inputs, in the order of their calls."""
    calls: dict[str, _Call] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            calls[name] = _Call(module, inputs, named)

        return hook

    handles = [
        part.register_forward_pre_hook(record(name), with_kwargs=True)
        for name, part in model.named_children()
    ]
    whole()
    for handle in handles:
        handle.remove()
    return calls


def _guarded(mode: Callable[..., Call], call: _Call, args: argparse.Namespace) -> Result:
    """Return a summary, or why there is none."""
    try:
        started_s = time.monotonic()
        ready = mode(call, args)
        prepared_s = time.monotonic() - started_s
        times_ms = timed(ready, args.device, args.runs)
    except Exception as error:  # torch raises whatever a compiler or driver says
        lines = str(error).strip().splitlines() or ['']
        return {'error': f'{type(error).__name__}: {lines[-1]}'}
    found = {**summary(times_ms), 'prepared_s': round(prepared_s, 1)}
    if mode is _compiled:
        found['graphs'] = counters['stats']['unique_graphs']
    return found


def _eager(call: _Call, args: argparse.Namespace) -> Call:
    return call


def _graph(call: _Call, args: argparse.Namespace) -> Call:
    """Record one run, after warming up on another stream, as torch's documentation asks."""
    if torch.device(args.device).type != 'cuda':
        raise RuntimeError('CUDA graphs need a CUDA device')
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def _compiled(call: _Call, args: argparse.Namespace) -> Call:
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(call.module, backend=args.compiler, dynamic=False)
    ready = _Call(compiled, call.inputs, call.named)
    ready()
    return ready


MODES: dict[str, Callable[[_Call, argparse.Namespace], Call]] = {
    EAGER: _eager,
    GRAPH: _graph,
    COMPILED: _compiled,
}
