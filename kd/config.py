"""The configuration: dataclasses are the single schema, and what follows from one study alone.

`kd.parsing` makes them from plain trees and tells all faults at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Part = dict[str, Any]
"""`{name: ..., argument: ...}`; the factory's signature is its schema."""


DECIDES_NOTHING = {"decides": False}
"""Metadata of a field that no result depends on: it is left out of every content address."""


@dataclass
class Split:
    """How rows are divided, stratified by label, groups kept whole."""

    test: float = 0.25
    """Share of rows that only the final evaluation sees."""
    validation: float = 0.1
    """Share of rows that choose checkpoints; their labels are labels and their number is stated."""
    seed: int = 0
    folds: int | None = None
    """Cross-validation: every seed is trained once for each fold, which tests it, instead of on one share `test`."""
    locked: str | None = None
    """Rows set aside before a search: a `.json` file that `kd data lock` wrote, or a shipped data set that has one."""
    phase: Literal["search", "final"] = "search"
    """`search` never meets the locked rows; `final` tests on them and nothing else: once, at the end."""


@dataclass
class Node:
    """One model of the graph and how it is trained."""

    sees: list[str]
    """Modalities it takes as input."""
    rows: Literal["any", "complete", "labelled"] = "any"
    """Training rows: with at least one modality it sees; with every modality of the data; or with one it sees and a
    label, where its teachers would teach it on rows without a label as well."""
    labelled_share: float | None = None
    """Share of each batch, in (0, 1), that has a label, where it learns from rows without one as well; null takes rows
    as they come."""
    drop: float = 0.0
    """Probability in [0, 1) that an available modality is hidden in training; one always stays."""
    drop_warmup: float = 0.0
    """Share of the steps, in [0, 1], over which `drop` grows from 0."""
    recombine: float = 0.0
    """Probability in [0, 1] that a training row takes each modality from a row of its class in the batch."""
    model: dict[str, Any] = field(default_factory=dict)
    """width, encoder, encoders, fusion, absent: keyword arguments of `kd.Classifier`; or `import: package.module:Class`
    with takes, checkpoint, prefix and the class's arguments, for a network of your own."""
    init: str | dict[str, str] | None = None
    """Node whose weights it starts from, instead of random ones; or modality -> node whose encoder, and under `concat`
    whose part of the head, it starts from."""
    augment: dict[str, Part] = field(default_factory=dict)
    """Modality -> random change of its training rows."""
    combine: Part | None = None
    """How several teachers are weighed against each other, row by row: `{name: mean, of: losses}`, see `kd list
    weightings`; by default the terms of its edges are summed, each with its weight (KDD 2020)."""
    supervised: float = 1.0
    """Weight of the labels' own loss; 1 in KDD 2020, whatever the edges weigh."""
    taught: float = 1.0
    """Weight of its teachers' losses together: it multiplies the weight of every edge that leads to it."""
    steps: int = 400
    """Optimiser steps: the same for every method compared; 0 uses given weights (`import`, `init`) as they are."""
    validate_every: int = 20
    """Steps between two looks at the validation rows; `steps` is a multiple of it."""
    batch_size: int = 32
    optimizer: Part = field(default_factory=lambda: dict(NODE_PARTS["optimizer"]))
    schedule: Part = field(default_factory=lambda: dict(NODE_PARTS["schedule"]))
    learning_rates: dict[str, float] = field(default_factory=dict)
    """Modality (its encoder), or path of a branch of the network -> its own learning rate; 0 freezes it."""
    select: Literal["complete", "subsets", "last"] = "complete"
    """Weights kept: best validation score on complete rows, on the mean over all subsets, or simply the last."""
    patience: int | None = None
    """Looks at the validation rows without a better score after which training stops; by default all `steps`."""

    @property
    def origins(self) -> set[str]:
        """Names of the nodes whose weights it starts from."""
        if self.init is None:
            return set()
        return {self.init} if isinstance(self.init, str) else set(self.init.values())


@dataclass
class Edge:
    """A teacher's soft labels for a student."""

    teacher: str
    student: str
    loss: Part = field(default_factory=lambda: dict(EDGE_PARTS["loss"]))
    weight: float = 1.0
    view: Literal["own", "full", "averaged"] = "own"
    """`full`: the student itself, seeing everything, gradient stopped, teaches its masked view; `averaged`: so do its
    weights averaged over its steps (mean teacher, 1703.01780)."""
    decay: float = 0.99
    """Of the moving average of weights, in [0, 1), under `view: averaged`."""
    when: Literal["all", "any"] = "all"
    """Rows on which the teacher counts: those with all, or any, of the modalities it sees."""
    cache: bool | None = None
    """Compute the teacher's outputs once; by default wherever the student augments nothing that the teacher sees."""


@dataclass
class Baseline:
    """A classifier that is no network, on the same rows: what networks have to beat."""

    sees: list[str]
    """Modalities it takes as input."""
    rows: Literal["any", "complete"] = "any"
    """Training rows, as for a node."""
    model: Part = field(default_factory=lambda: {"name": "logistic"})
    select: Literal["complete", "subsets"] = "subsets"
    """Settings kept: best validation accuracy on complete rows, or on the mean over all subsets."""


@dataclass
class Ensemble:
    """A late fusion of trained nodes or baselines; trains no network."""

    members: list[str]
    combine: str = "product"
    """How the answers of the members that can answer become one: a name that `kd list combinations` prints."""


@dataclass
class Contrast:
    """A declared comparison of two nodes, baselines or ensembles."""

    method: str
    baseline: str
    over: Literal["complete", "subsets"] = "complete"
    """Complete test rows, or the mean over the subsets that both can answer."""


@dataclass
class Family:
    """Comparisons declared all at once: each method against each of a few baselines, on one score.

    They are spelt out into `contrasts`, named METHOD_vs_BASELINE, when the config is parsed.
    """

    baselines: list[str]
    """Nodes, baselines or ensembles that every method has to beat."""
    over: Literal["complete", "subsets"] = "subsets"
    """Complete test rows, or the mean over the subsets that both can answer."""
    methods: list[str] = field(default_factory=list)
    """By default every node, baseline and ensemble that sees all modalities and is none of `baselines`."""


@dataclass
class Contest:
    """One method against all its rivals at once: it wins where it beats every one of them."""

    method: str
    """Node, baseline or ensemble."""
    against: list[str]
    """Nodes, baselines or ensembles that it has to beat."""
    least: float = 0.01
    """Smallest difference that counts as a win; a whole interval inside plus or minus this is a tie."""


@dataclass
class Compression:
    """What is made small, and how."""

    student: str
    """Node to compress."""
    passes: dict[str, Part]
    """Stage -> pass, applied in this order, each to what the one before made; `of: STAGE` starts from another one, and
    `of: float` from the student."""
    margin: float = 0.01
    """A stage is non-inferior where its whole interval of the mean over subsets is above the student's less this."""
    margin_subset: float = 0.02
    """The same on every single subset."""


@dataclass
class Study:
    """A run: data, mask, a graph of nodes and edges, what is compared, what is compressed."""

    data: Part
    nodes: dict[str, Node]
    edges: dict[str, Edge] = field(default_factory=dict)
    mask: Part = field(default_factory=lambda: {"name": "complete"})
    """Mechanism that hides modalities of training rows."""
    split: Split = field(default_factory=Split)
    seeds: int = 5
    """Replicates: mask, initialisation, order and noise are redrawn in each; the split stays."""
    first_seed: int = 0
    mask_seed: int | None = None
    """Draw every seed's mask from this seed instead, to tell the mask's variance from the training's."""
    class_weight: list[float] | None = None
    test_masks: dict[str, Part] = field(default_factory=dict)
    """Name -> mechanism that hides modalities of test rows, drawn anew in each replicate; `clean`, which hides nothing,
    is always among them."""
    baselines: dict[str, Baseline] = field(default_factory=dict)
    ensembles: dict[str, Ensemble] = field(default_factory=dict)
    contrasts: dict[str, Contrast] = field(default_factory=dict)
    family: Family | None = None
    """Contrasts of many methods with the same few baselines; Holm covers them and `contrasts` alike."""
    contests: dict[str, Contest] = field(default_factory=dict)
    """Intersection-union tests on complete rows, the mean over subsets and the worst subset."""
    simple: list[str] = field(default_factory=list)
    """Methods to use unless another one is better; by default baselines, ensembles and the plain masked models."""
    margin: float = 0.01
    """A difference inside plus or minus this, with its whole interval, is a tie."""
    test: Literal["crossed", "wilcoxon", "permutation"] = "crossed"
    """Of every contrast, Holm over all, from 20 seeds on: the interval's t test over seeds and rows; Wilcoxon's over
    seeds, for these test rows; or sign flips over rows, groups kept whole, for these networks."""
    duplicates: Literal["refuse", "allow"] = field(default="refuse", metadata=DECIDES_NOTHING)
    """Copies and near copies of test or validation rows in another part: a fault, or counted and told."""
    allow_columns: list[str] = field(default_factory=list, metadata=DECIDES_NOTHING)
    """Columns, as `modality[column]`, that tell the label by themselves and are features all the same."""
    compress: Compression | None = None
    threads: int = 1
    """Threads of one fit; part of what decides a result's bits."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Arguments of `pytorch_lightning.Trainer`; `loggers` and `callbacks` by name."""
    jobs: int = field(default=1, metadata=DECIDES_NOTHING)
    """Replicates trained at the same time, each in a process of its own."""
    title: str = field(default="", metadata=DECIDES_NOTHING)


NODE_PARTS: dict[str, Any] = {"optimizer": {"name": "adam"}, "schedule": {"name": "constant"}}
EDGE_PARTS: dict[str, Any] = {"loss": {"name": "kl"}}
"""The parts below what is written, so that `optimizer.lr=0.01` alone changes the default part."""


def deciding(config: Any) -> dict[str, Any]:
    """Return a config's fields that decide results, as plain data for a content address."""
    left_out = {item.name for item in fields(config) if not item.metadata.get("decides", True)}
    return {key: value for key, value in asdict(config).items() if key not in left_out}


def family_contrasts(study: Study) -> dict[str, Contrast]:
    """Return METHOD_vs_BASELINE -> contrast for every pair of the study's family; none without one."""
    family = study.family
    if family is None:
        return {}
    methods = family.methods or [name for name in seeing_all(study) if name not in family.baselines]
    pairs = [(method, baseline) for method in methods for baseline in family.baselines if method != baseline]
    return {f"{method}_vs_{baseline}": Contrast(method, baseline, family.over) for method, baseline in pairs}


def seeing_all(study: Study) -> list[str]:
    """Return the nodes, baselines and ensembles that see every modality that any of them sees."""
    sees = {name: set(one.sees) for part in (study.nodes, study.baselines) for name, one in part.items()}
    fused = {name: set().union(*(sees.get(m, ()) for m in one.members)) for name, one in study.ensembles.items()}
    every = set().union(*sees.values())
    return [name for name, seen in {**sees, **fused}.items() if seen >= every]


def simple_methods(study: Study) -> list[str]:
    """Return the methods to use unless another one is better: those declared, else the simple ones there are.

    Simple are every baseline and ensemble, and each plain masked model: a node on rows `any` that sees every modality,
    without a teacher, origin, dropped modalities or a model that handles absence in its own way.
    """
    taught = {edge.student for edge in study.edges.values()}
    whole = seeing_all(study)
    plain = [
        name
        for name, node in study.nodes.items()
        if name in whole and name not in taught and node.rows == "any" and node.init is None and node.drop == 0
        if not {"absent", "fusion"} & set(node.model)
    ]
    return study.simple or [*plain, *study.baselines, *study.ensembles]
