"""Turn a network into a self-contained ONNX graph of opset 18."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from typing import Any

import onnx
import torch
from torch import nn

from cigocc_ros.core.calibration import Calibration
from cigocc_ros.core.manifest import (
    DEPTH_PRIOR,
    IMAGE,
    LOGITS,
    OPSET,
    PIXEL_FROM_VELO,
    SEMANTIC_PRIOR,
    VELO_FROM_PIXEL,
)
from cigocc_ros.export.graph import copied, drop_unused
from cigocc_ros.export.graph_rules import check_graph
from cigocc_ros.export.sampling_function import add_sampling_function
from cigocc_ros.model.output import ExportModel
from cigocc_ros.runtime.contract import Arrays

INPUT_NAMES = (IMAGE, DEPTH_PRIOR, PIXEL_FROM_VELO, VELO_FROM_PIXEL)
"""What every network takes, in the order of its arguments; `input_names` adds what some take."""


def input_names(arrays: Arrays) -> tuple[str, ...]:
    """Return the names of the inputs that are given, in the order of the network's arguments."""
    return (*INPUT_NAMES, SEMANTIC_PRIOR) if SEMANTIC_PRIOR in arrays else INPUT_NAMES


def to_onnx(
    model: nn.Module,
    example: Arrays,
    with_scopes: bool = False,
    calibration: Calibration | None = None,
) -> onnx.ModelProto:
    """Export `model` (uint8 image, depth prior, two matrices -> `.logits`) with all outputs.

    `example` holds one input of every name of the engine contract. `with_scopes` keeps the module
    that each node comes from in its metadata, which measurements want and files to share do not.
    `calibration` goes into the graph, behind the network.
    Raises GraphError where the graph breaks a rule of `graph_rules`.
    """
    wrapper = ExportModel(model, with_logits=True, calibration=calibration)
    arguments = {name: torch.from_numpy(example[name].copy()) for name in input_names(example)}
    proto: onnx.ModelProto = _traced(wrapper, arguments).model_proto
    add_sampling_function(proto)
    if not with_scopes:
        _strip_debug_text(proto)
    onnx.checker.check_model(proto)
    check_graph(proto)
    return proto


def without_logits(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that computes the outputs of the engine contract and nothing else."""
    deployed = copied(proto)
    kept = [output for output in proto.graph.output if output.name != LOGITS]
    del deployed.graph.output[:]
    deployed.graph.output.extend(kept)
    drop_unused(deployed.graph)
    return deployed


def _traced(wrapper: ExportModel, arguments: dict[str, torch.Tensor]) -> Any:
    # Complains about optional operators of torchvision, which nothing here uses.
    logging.getLogger('torch.onnx._internal.exporter._registration').setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the exporter's own deprecations, nothing a user can do
        program = torch.onnx.export(
            wrapper,
            tuple(arguments.values()),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=tuple(arguments),
            output_names=wrapper.output_names,
            verbose=False,
        )
    return program


def _strip_debug_text(model: onnx.ModelProto) -> None:
    """Drop stack traces and doc strings: they hold local paths, which differ by machine."""
    graph = model.graph
    _clear(graph)
    _clear((*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer))
    for function in model.functions:
        _clear(function)
        _clear(function.node)
    del model.metadata_props[:]
    model.doc_string = ''


def _clear(messages: Any) -> None:
    for message in messages if isinstance(messages, Iterable) else (messages,):
        message.doc_string = ''
        del message.metadata_props[:]
