"""Which attributes of a TensorRT binding a program touches, found by following the binding's objects through its text.

The binding has no types, so no type checker can tell. An object is followed from the import that brings it through
names, attributes of ``self``, fields of dataclasses, loops, arguments and results of the program's own functions.
What the binding's own calls give is declared in ``RESULTS``; an attribute of a result that is not declared there is
reported, so that nothing is left out silently.

A label stands for what an expression is: the name of a class or enum of the binding, ``MODULE`` for the binding
itself, ``[]X`` for several X, and ``?X.y`` for a result that is not declared.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODULE = ""
BINDINGS = ("tensorrt", "tensorrt_rtx")
RESULTS = {
    ("Builder", "create_network"): "INetworkDefinition",
    ("Builder", "create_builder_config"): "IBuilderConfig",
    ("Builder", "create_optimization_profile"): "IOptimizationProfile",
    ("Builder", "build_serialized_network"): "IHostMemory",
    ("IBuilderConfig", "create_timing_cache"): "ITimingCache",
    ("INetworkDefinition", "get_layer"): "ILayer",
    ("ILayer", "get_input"): "ITensor",
    ("ILayer", "get_output"): "ITensor",
    ("ILayer", "type"): "LayerType",
    ("ITensor", "dtype"): "DataType",
    ("OnnxParser", "get_error"): "ParserError",
    ("Runtime", "deserialize_cuda_engine"): "ICudaEngine",
    ("ICudaEngine", "create_engine_inspector"): "EngineInspector",
    ("ICudaEngine", "create_execution_context"): "IExecutionContext",
    ("ICudaEngine", "create_execution_context_without_device_memory"): "IExecutionContext",
    ("ICudaEngine", "create_runtime_config"): "IRuntimeConfig",
    ("IRuntimeConfig", "create_runtime_cache"): "IRuntimeCache",
    ("ICudaEngine", "get_tensor_dtype"): "DataType",
}
"""What a method gives, or an attribute is, where that has attributes of its own."""
PLAIN = {
    ("ICudaEngine", "get_tensor_name"),
    ("ICudaEngine", "get_tensor_shape"),
    ("IExecutionContext", "get_tensor_shape"),
    ("ILayer", "name"),
    ("ParserError", "desc"),
    ("ParserError", "node_name"),
}
"""What is text or numbers, whose attributes are Python's own."""

Labels = frozenset[str]
NOTHING: Labels = frozenset()
_Table = dict[Any, Labels]


@dataclass(frozen=True)
class Access:
    """One attribute of the binding that the program touches."""

    owner: str
    """Its class or enum, or ``MODULE``."""
    name: str
    place: str
    """File and line."""
    asks: bool
    """Whether it only asks whether there is such an attribute: ``hasattr``, or ``getattr`` with a default."""
    where: tuple["Condition", ...]
    """What holds wherever the program comes here."""


@dataclass(frozen=True)
class Condition:
    """That ``hasattr(owner, name)`` is true or false."""

    owner: str
    name: str
    holds: bool


@dataclass
class _Scope:
    """A module or function with its names."""

    node: ast.AST
    file: str
    parent: "_Scope | None"
    owner: str
    """The class that a method belongs to; empty outside."""
    names: _Table = field(default_factory=dict)
    asked: dict[ast.AST, list[tuple[ast.expr, str, bool]]] = field(default_factory=dict)
    """For each node, the ``hasattr`` that decided on the way to it, and how."""

    def find(self, name: str) -> Labels:
        return self.names.get(name, self.parent.find(name) if self.parent else NOTHING)


class Program:
    """Some files, and what is known of them so far."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._scopes: list[_Scope] = []
        self._functions: dict[str, list[_Scope]] = defaultdict(list)
        self._fields: dict[str, list[str]] = {}
        self._attributes: _Table = {}
        self._results: _Table = {}
        self._tuples: dict[str, list[Labels]] = {}
        self._naming = {file for file, text in files.items() if _names_binding(ast.parse(text))}
        for file, text in files.items():
            self._enter(ast.parse(text), file, None, "")
        self._changed = True
        while self._changed:
            self._changed = False
            for scope in self._scopes:
                for node in _own_nodes(scope.node):
                    self._learn(node, scope)

    @classmethod
    def of(cls, folders: Iterable[Path]) -> "Program":
        """Read all Python files below some folders."""
        return cls({str(path): path.read_text() for folder in folders for path in sorted(folder.rglob("*.py"))})

    def accesses(self) -> list[Access]:
        """Return all attributes of the binding that the program touches."""
        return [
            access for scope in self._scopes for node in _own_nodes(scope.node) for access in _of(self, node, scope)
        ]

    def _enter(self, node: ast.AST, file: str, parent: _Scope | None, owner: str) -> None:
        scope = _Scope(node, file, parent, owner)
        self._scopes.append(scope)
        if isinstance(node, ast.FunctionDef):
            self._functions[owner if node.name == "__init__" else node.name].append(scope)
        _walk(node, [], scope.asked)
        for child in _own_nodes(node):
            if isinstance(child, ast.FunctionDef):
                self._enter(child, file, scope, "")
            if isinstance(child, ast.ClassDef):
                self._fields[child.name] = [
                    part.target.id
                    for part in child.body
                    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
                ]
                for part in child.body:
                    if isinstance(part, ast.FunctionDef):
                        self._enter(part, file, scope, child.name)

    def _learn(self, node: ast.AST, scope: _Scope) -> None:
        """Take from one statement or expression what it tells of names, attributes, parameters and results."""
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._bind(target, value, scope)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
                self._bind(target, value, scope)
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                self._bind(target, value, scope)
            case ast.For(target=target, iter=source) | ast.comprehension(target=target, iter=source):
                self._bind_items(target, source, scope)
            case ast.Call():
                self._pass_arguments(node, scope)
            case ast.Import() | ast.Return():
                self._learn_import_or_result(node, scope)

    def _learn_import_or_result(self, node: ast.Import | ast.Return, scope: _Scope) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in BINDINGS:
                    self._set(scope.names, alias.asname or alias.name, frozenset({MODULE}))
        elif node.value is not None and isinstance(scope.node, ast.FunctionDef):
            self._set(self._results, scope.node.name, self.labels(node.value, scope))
            if isinstance(node.value, ast.Tuple):
                self._tuples[scope.node.name] = [self.labels(part, scope) for part in node.value.elts]

    def _bind(self, target: ast.expr, value: ast.expr, scope: _Scope) -> None:
        if isinstance(target, ast.Tuple):
            if isinstance(value, ast.Tuple):
                parts = [self.labels(part, scope) for part in value.elts]
            else:
                parts = self._tuples.get(_called(value), [])
            for one, labels in zip(target.elts, parts, strict=False):
                self._store(one, labels, scope)
        else:
            self._store(target, self.labels(value, scope), scope)

    def _bind_items(self, target: ast.expr, source: ast.expr, scope: _Scope) -> None:
        if isinstance(source, ast.Call) and _called(source) == "zip" and isinstance(target, ast.Tuple):
            pairs = list(zip(target.elts, source.args, strict=False))
        else:
            pairs = [(target, source)]
        for one, many in pairs:
            items = frozenset(label[2:] for label in self.labels(many, scope) if label.startswith("[]"))
            self._store(one, items, scope)

    def _store(self, target: ast.expr, labels: Labels, scope: _Scope) -> None:
        match target:
            case ast.Name(id=name):
                self._set(scope.names, name, labels)
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                self._set(self._attributes, (scope.owner, name), labels)

    def _set(self, table: _Table, key: Any, labels: Labels) -> None:
        known = table.get(key, NOTHING)
        if not labels <= known:
            table[key] = known | labels
            self._changed = True

    def _pass_arguments(self, call: ast.Call, scope: _Scope) -> None:
        callee = _called(call)
        given = [(index, self.labels(value, scope)) for index, value in enumerate(call.args)]
        named = [(keyword.arg or "", self.labels(keyword.value, scope)) for keyword in call.keywords]
        for function in self._functions.get(callee, []):
            if callee.startswith("_") and function.file != scope.file:
                continue  # another one of the same name
            assert isinstance(function.node, ast.FunctionDef)
            names = [argument.arg for argument in (*function.node.args.posonlyargs, *function.node.args.args)]
            names = names[1:] if function.owner else names
            for index, labels in given:
                if index < len(names):
                    self._set(function.names, names[index], labels)
            for name, labels in named:
                self._set(function.names, name, labels)
        fields = self._fields.get(callee, [])
        for index, labels in given:
            if index < len(fields):
                self._set(self._attributes, (callee, fields[index]), labels)
        for name, labels in named:
            if name in fields:
                self._set(self._attributes, (callee, name), labels)

    def labels(self, node: ast.expr, scope: _Scope) -> Labels:
        """Say what an expression is, as far as that comes from the binding."""
        match node:
            case ast.Name(id=name):
                return scope.find(name)
            case ast.Attribute(value=value, attr=name):
                return self._attribute(value, name, scope)
            case ast.Call():
                return self._call(node, scope)
            case ast.IfExp(body=one, orelse=other):
                return self.labels(one, scope) | self.labels(other, scope)
            case ast.BoolOp(values=values):
                return NOTHING.union(*(self.labels(value, scope) for value in values))
            case ast.NamedExpr(value=value):
                return self.labels(value, scope)
            case ast.ListComp(elt=value) | ast.GeneratorExp(elt=value) | ast.SetComp(elt=value):
                return _several(self.labels(value, scope))
            case ast.List(elts=values) | ast.Tuple(elts=values) | ast.Dict(values=values):
                return _several(NOTHING.union(*(self.labels(value, scope) for value in values)))
            case ast.Subscript(value=value):
                return frozenset(label[2:] for label in self.labels(value, scope) if label.startswith("[]"))
        return NOTHING

    def _attribute(self, value: ast.expr, name: str, scope: _Scope) -> Labels:
        owners = _objects(self.labels(value, scope))
        if owners:
            return _results(owners, name)
        if isinstance(value, ast.Name) and value.id == "self":
            return self._attributes.get((scope.owner or self._enclosing(scope), name), NOTHING)
        if name.startswith("_"):
            return NOTHING
        # Of a class that is not known, since only the binding's objects are followed.
        return NOTHING.union(*(labels for (_, known), labels in self._attributes.items() if known == name))

    def _enclosing(self, scope: _Scope) -> str:
        while scope.parent and not scope.owner:
            scope = scope.parent
        return scope.owner

    def _call(self, call: ast.Call, scope: _Scope) -> Labels:
        callee = _called(call)
        if callee == "import_module":
            first = call.args[0]
            literal = first.value if isinstance(first, ast.Constant) else None
            # A name that is computed may be the binding's wherever a file has that as a text.
            known = literal in BINDINGS if literal else scope.file in self._naming
            return frozenset({MODULE}) if known else NOTHING
        if callee in {"getattr", "setattr"} and isinstance(call.args[1], ast.Constant):
            return self._attribute(call.args[0], str(call.args[1].value), scope)
        if callee in {"list", "sorted", "reversed", "tuple"} and call.args:
            return self.labels(call.args[0], scope)
        if isinstance(call.func, ast.Attribute) and (owners := _objects(self.labels(call.func.value, scope))):
            return _results(owners, callee)
        labels = self._results.get(callee, NOTHING)
        return labels | self.labels(call.func, scope) if isinstance(call.func, ast.Name) else labels


def _of(program: Program, node: ast.AST, scope: _Scope) -> Iterator[Access]:
    """Return the accesses that one node makes by itself."""
    match node:
        case ast.Attribute(value=value, attr=name):
            asks = False
        case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr" as function), args=[value, named, *rest]):
            name = str(named.value) if isinstance(named, ast.Constant) else f"<{ast.unparse(named)}>"
            asks = function == "hasattr" or (function == "getattr" and bool(rest))
            if asks and not isinstance(named, ast.Constant):
                return
        case _:
            return
    where = tuple(
        Condition(owner, asked, holds)
        for receiver, asked, holds in scope.asked.get(node, [])
        for owner in sorted(_objects(program.labels(receiver, scope)))
    )
    for owner in sorted(_objects(program.labels(value, scope))):
        if not name.startswith("__"):
            yield Access(owner, name, f"{scope.file}:{value.lineno}", asks, where)


_Asked = list[tuple[ast.expr, str, bool]]


def _walk(node: ast.AST, known: _Asked, found: dict[ast.AST, _Asked]) -> None:
    """Go through a function, or the top of a module, and write down at each node what decided on the way to it."""
    found[node] = known
    match node:
        case ast.If(test=test, body=body, orelse=otherwise):
            _walk(test, known, found)
            _walk_block(body, known + _decided(test, True), found)
            _walk_block(otherwise, known + _decided(test, False), found)
        case ast.IfExp(test=test, body=one, orelse=other):
            _walk(test, known, found)
            _walk(one, known + _decided(test, True), found)
            _walk(other, known + _decided(test, False), found)
        case ast.BoolOp(op=op, values=values):
            for value in values:
                _walk(value, known, found)
                known = known + _decided(value, isinstance(op, ast.And))
        case _:
            for _, part in ast.iter_fields(node):
                if isinstance(part, list):
                    _walk_block(part, known, found)
                elif isinstance(part, ast.AST):
                    _walk(part, known, found)


def _walk_block(block: list[Any], known: _Asked, found: dict[ast.AST, _Asked]) -> None:
    for part in block:
        # What lies in a function or class of its own has a scope of its own.
        if isinstance(part, ast.AST) and not isinstance(part, ast.FunctionDef | ast.ClassDef):
            _walk(part, known, found)
            if isinstance(part, ast.If) and isinstance(
                part.body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break
            ):
                known = known + _decided(part.test, False)


def _decided(test: ast.expr, holds: bool) -> _Asked:
    """Return what is known of ``hasattr`` where ``test`` is true, or false."""
    match test:
        case ast.Call(func=ast.Name(id="hasattr"), args=[receiver, ast.Constant(value=str(name))]):
            return [(receiver, name, holds)]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _decided(operand, not holds)
        case ast.BoolOp(op=op, values=values) if isinstance(op, ast.And) == holds:
            return [fact for value in values for fact in _decided(value, holds)]
    return []


def _names_binding(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Constant) and node.value in BINDINGS for node in ast.walk(tree))


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Return all nodes below one, without what lies in functions and classes of its own."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from _own_nodes(child)


def _called(node: ast.expr) -> str:
    match node:
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name
    return ""


def _several(labels: Labels) -> Labels:
    return frozenset(f"[]{label}" for label in labels)


def _objects(labels: Labels) -> Labels:
    return frozenset(label for label in labels if not label.startswith("[]"))


def _results(owners: Labels, name: str) -> Labels:
    """Say what an attribute of the binding's objects is, or gives when it is called."""
    return frozenset(
        _result(owner, name) for owner in owners if not name.startswith("__") and not _is_plain(owner, name)
    )


def _is_plain(owner: str, name: str) -> bool:
    return (owner, name) in PLAIN or (owner in RESULTS.values() and name in {"name", "value"})


def _result(owner: str, name: str) -> str:
    if owner == MODULE:
        return name
    if name.isupper():
        return owner  # a member of an enum
    return RESULTS.get((owner, name), f"?{owner}.{name}")
