"""How the ONNX parsers of TensorRT read a node: as an operator, a plugin, or a local function.

Upstream, `ModelImporter.cpp::parseNode` of onnx-tensorrt, by release:

- before 10.7 a local function of the file always comes before a plugin of its name;
- 10.7 to 10.14: "Let plugin take precedence over local function" (changelog of 10.7: "Now
  prioritizes using plugins over local functions");
- 10.15 and later: "local function will be preferred over plugin if the flag is unset"; a plugin
  comes first only where the flag ENABLE_PLUGIN_OVERRIDE is set or the node carries an attribute
  `plugin_namespace`;
- before 10.8 a function whose input has the name of a tensor outside of it reads that tensor
  (changelog of 10.8: "Fixed the import of local functions when their input tensor names aliased
  one from an outside scope").

Operators are known by their type alone, whatever their domain. What is neither operator nor
function is a plugin or an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx

from cigocc_ros.export.sampling_function import sampling_function

STOCK_PLUGINS = {('MultiscaleDeformableAttnPlugin_TRT', '1', ''), ('ScatterND', '1', '')}
"""Name, version, namespace of some creators of libnvinfer_plugin (inferPlugin.cpp, 10.3 to 11)."""
PLUGINS_FIRST, FUNCTIONS_FIRST, ALIASES_MENDED = (10, 7), (10, 15), (10, 8)
LAYERS = {
    'Conv': 'CONVOLUTION',
    'GridSample': 'GRID_SAMPLE',
    'Shape': 'SHAPE',
    'Constant': 'CONSTANT',
    'Cast': 'CAST',
}
"""Operator -> layer; the others are ELEMENTWISE here."""


def with_bodies(content: bytes) -> bytes:
    """Return a network whose plugins have bodies that ONNX Runtime can run in their place."""
    model = onnx.load_from_string(content)
    sampling = sampling_function()
    called = any(node.op_type == sampling.name for node in model.graph.node)
    if called and sampling.name not in {function.name for function in model.functions}:
        model.functions.append(sampling)
    return bytes(model.SerializeToString())


class ParseFailure(Exception):
    """A node that the parser refuses: text, name and type of the node."""


@dataclass
class Reading:
    """One model as one release reads it."""

    version: tuple[int, int]
    plugins: set[tuple[str, str, str]]
    log: Any
    """Called with the name of a severity and a message."""
    override: bool = False
    """ENABLE_PLUGIN_OVERRIDE."""
    misbound: list[str] = field(default_factory=list)
    """Inputs of functions that are bound to a wrong tensor."""

    def layers(self, model: onnx.ModelProto) -> list[str]:
        """Return the names of the layers' types in their order."""
        functions = {function.name: function for function in model.functions}
        names = {value.name for value in model.graph.input}
        names |= {tensor.name for tensor in model.graph.initializer}
        return list(self._nodes(model.graph.node, functions, names))

    def _nodes(self, nodes: Any, functions: dict[str, Any], outer: set[str]) -> Iterator[str]:
        for node in nodes:
            yield from self._node(node, functions, outer)
            outer.update(node.output)

    def _node(self, node: Any, functions: dict[str, Any], outer: set[str]) -> Iterator[str]:
        kind = self._importer(node, functions)
        if kind == 'plugin':
            yield 'PLUGIN_V2'
        elif kind == 'function':
            function = functions[node.op_type]
            self._check_aliases(node, function, outer)
            yield from self._nodes(function.node, functions, {*outer, *function.input})
        else:
            yield LAYERS.get(node.op_type, 'ELEMENTWISE')

    def _importer(self, node: Any, functions: dict[str, Any]) -> str:
        """Return operator, function or plugin; raise ParseFailure."""
        name, chosen = node.op_type, 'plugin'
        asked = self.override or _namespace(node) is not None
        if self.version >= FUNCTIONS_FIRST and asked and self._registered(node):
            self.log('VERBOSE', f'Found registered plugin: {name}. Importing this node as one.')
        elif onnx.defs.has(name):
            chosen = 'operator'
        elif name in functions and self._prefers_plugin(node):
            self.log('INFO', f'Found registered plugin: {name}. Importing local function as one.')
        elif name in functions:
            self.log('INFO', f'Found registered local function: {name}. Importing as one.')
            chosen = 'function'
        elif not self._registered(node):
            raise ParseFailure(f'No importer registered for op: {name}', node.name, name)
        return chosen

    def _prefers_plugin(self, node: Any) -> bool:
        between = PLUGINS_FIRST <= self.version < FUNCTIONS_FIRST
        return between and self._registered(node)

    def _registered(self, node: Any) -> bool:
        version = _attribute(node, 'plugin_version') or '1'
        return (node.op_type, version, _namespace(node) or '') in self.plugins

    def _check_aliases(self, node: Any, function: Any, outer: set[str]) -> None:
        if self.version >= ALIASES_MENDED:
            return
        for given, name in zip(node.input, function.input, strict=True):
            if name in outer and name != given:
                self.misbound.append(name)
                self.log('WARNING', f'Found input {name} outside. Behavior may be incorrect.')


def _namespace(node: Any) -> str | None:
    return _attribute(node, 'plugin_namespace')


def _attribute(node: Any, name: str) -> str | None:
    for attribute in node.attribute:
        if attribute.name == name:
            return str(attribute.s.decode())
    return None
