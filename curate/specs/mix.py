"""The mix spec: which sources, what to be good at, how many tokens, and under which limits. And the solved mix, a spec of its own.

Five lines are enough:

    name: small
    sources: {web: runs/crawl/web/06-tokenize, code: runs/crawl/code/06-tokenize}
    target: {tokens: 20_000_000_000}
    evals: {docs: evals/docs.jsonl, code: evals/code.jsonl}
    tokenizer: runs/crawl/together/06-tokenize/tokenizer.json

Inside a workflow, `sources` and `tokenizer` are those of the workflow.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from msgspec import Meta, field

from curate.errors import SpecError
from curate.specs.load import Spec
from curate.specs.workflow import Positive, Share

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
Name = Annotated[str, Meta(pattern=rf"^{NAME}\Z")]
Label = Annotated[str, Meta(pattern=r"^[^\W_][^\x00-\x1f\x7f]*\Z")]  # what check_own tells from a Name, in words
Column = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f\x85\u2028\u2029]+\Z")]  # of somebody else's table: any name of one line
Seed = Annotated[int, Meta(ge=0)]
NotNegative = Annotated[float, Meta(ge=0)]
AboveZero = Annotated[float, Meta(gt=0)]

LAWS = ("auto", "ridge", "log_linear", "power", "gp", "power_gp", "power_times_gp", "trees")
STRENGTHS, SPARSE = (2.0, 30.0), 0.25
DESIGNS = ("space_filling", "dirichlet", "d_optimal")
OBJECTIVES = ("bits", "chance")
RIVALS = ("natural", "uniform")


class Source(Spec, frozen=True, kw_only=True):
    """One source: folders of token shards as a tokenize step writes them, with `*` allowed. Its tokens are counted, not typed."""

    shards: str | list[str] | None = None  # one folder of token shards or several; null: the workflow's source of this name
    buckets: dict[Name, str | list[str]] = {}  # instead of shards: folders by quality, worst first; better ones are repeated at least as often
    group: Name | None = None  # of sources that limits and draws take together
    synthetic: bool = False  # whether constraints.max_synthetic counts it
    tokens: Positive | None = None  # only for a swarm that was trained elsewhere: what there is of it

    def __post_init__(self) -> None:
        if self.buckets and (self.shards is not None or self.tokens is not None):
            raise ValueError("a source has either shards or buckets\nhint: the folders of the buckets are the source")
        if self.shards is not None and self.tokens is not None:
            raise ValueError("a source has either shards or tokens\nhint: shards are counted; tokens is for a source that is not here")
        if len(self.buckets) == 1:
            raise ValueError("one bucket alone is no order\nhint: name its folder under shards")


class Target(Spec, frozen=True, kw_only=True):
    """The training run that the mix is for."""

    tokens: Positive  # that it will train on


class Eval(Spec, frozen=True, kw_only=True):
    """A suite in JSON lines (`.gz` allowed), scored in bits per byte.

    Held-out text: every item is the field `text`. With `continuation`, that field is scored given `context`. With `choices`
    and `gold` (an index), the gold choice is scored given `context`, and accuracy is measured as well.
    """

    file: str | None = None  # JSON lines, relative to the project; null: only with tables of a swarm that was trained elsewhere
    weight: NotNegative = 1.0  # in the objective, relative to the other suites
    protect: bool = False  # its predicted bits per byte may not exceed those of the natural mix
    text: str = "text"  # field of held-out text
    context: str | None = None  # field that is given and not scored
    continuation: str | None = None  # field that is scored after the context
    choices: str | None = None  # field with a list of answers
    gold: str | None = None  # field with the index of the right one
    joined_by: str = " "  # stands between context and continuation, and is scored with the continuation
    max_items: Positive | None = None  # the first so many items; null: all
    shots: Annotated[int, Meta(ge=0)] = 0  # so many of the first items stand before each of the others, and are not scored

    def __post_init__(self) -> None:
        if self.continuation is not None and self.choices is not None:
            raise ValueError("a suite has either continuation or choices")
        if (self.choices is None) != (self.gold is None):
            raise ValueError("choices and gold come together\nhint: gold names the field with the index of the right choice")
        if self.context is not None and self.continuation is None and self.choices is None:
            raise ValueError("context needs continuation, or choices and gold")


class Swarm(Spec, frozen=True, kw_only=True):
    """The mixes that proxies are trained on: the natural, the uniform, one that leans on each source, and those of a design."""

    runs: Positive | None = None  # null: 3 × (sources + 1)
    design: str = "space_filling"  # of the mixes that follow: space_filling, dirichlet, d_optimal
    batch: Positive | None = None  # further runs, so many at a time, where the laws are unsure of the best mix; null: none
    max_runs: Positive | None = None  # with batch: the most runs in all; null: 10 × (sources + 1)
    strengths: tuple[AboveZero, AboveZero] = STRENGTHS  # of Dirichlet draws; log-uniform; small: far from the center
    sparse: Share = SPARSE  # share of Dirichlet draws in which some sources are left out
    replicates: Annotated[int, Meta(ge=0)] = 2  # of the natural mix with other seeds, which measure the noise
    group: Positive | None = None  # proxies that are trained as one model; null: 1 on CPUs, on a GPU what a short measurement says
    seed: Seed = 0  # of the mixes, and of the proxies' initialization and order

    def __post_init__(self) -> None:
        if self.strengths[0] > self.strengths[1]:
            raise ValueError("strengths are [lowest, highest]")
        if self.design not in DESIGNS:
            raise ValueError(f"unknown design '{self.design}'\nhint: known: {', '.join(DESIGNS)}")
        if self.design == "space_filling" and (self.strengths, self.sparse) != (STRENGTHS, SPARSE):
            raise ValueError("strengths and sparse are of Dirichlet draws\nhint: with design: dirichlet, or d_optimal, which chooses from such draws")
        if self.max_runs is not None and self.batch is None:
            raise ValueError("max_runs needs batch\nhint: runs says how many there are without it")


class Proxy(Spec, frozen=True, kw_only=True):
    """The small language model that is trained once per mix."""

    layers: Positive = 3  # blocks of attention and MLP
    width: Positive = 128  # of the hidden states
    heads: Positive = 2  # of attention
    context: Positive = 512  # tokens of a sequence
    tokens: Positive = 4_000_000  # that each proxy trains on
    batch_tokens: Positive = 8192  # of one step
    learning_rate: AboveZero = 4e-3  # at its peak
    warmup: Share = 0.1  # share of the steps
    final_rate: Share = 0.1  # of the learning rate, at the end of the cosine
    weight_decay: NotNegative = 0.1  # of matrices
    simulate_repeats: bool = True  # subsample a source so that a proxy repeats it as often as the target would

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 2 × {self.heads} heads")
        if self.batch_tokens < self.context:
            raise ValueError(f"batch_tokens {self.batch_tokens} hold no sequence of {self.context} tokens")
        if self.tokens < self.batch_tokens:
            raise ValueError(f"tokens {self.tokens} are fewer than one batch of {self.batch_tokens}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layers, width and heads: what one proxy shares with another that goes on from it."""
        return self.layers, self.width, self.heads


class SourceLimits(Spec, frozen=True, kw_only=True):
    """Limits of one source, as shares of the target's tokens."""

    min: Share = 0.0  # lowest share
    max: Share = 1.0  # highest share
    fixed: Share | None = None  # exactly this share
    max_repeats: AboveZero | None = None  # null: that of all sources

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.fixed is not None and (self.min > 0 or self.max < 1):
            raise ValueError("fixed excludes min and max")


class GroupLimits(Spec, frozen=True, kw_only=True):
    """Limits of a group of sources, as shares of the target's tokens."""

    min: Share = 0.0  # lowest share
    max: Share = 1.0  # highest share
    fixed: Share | None = None  # exactly this share

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.fixed is not None and (self.min > 0 or self.max < 1):
            raise ValueError("fixed excludes min and max")


class Constraints(Spec, frozen=True, kw_only=True):
    """What a mix must satisfy to be proposed."""

    max_repeats: AboveZero = 4.0  # times that the target may read a source (Muennighoff 2023: 4 cost little)
    sources: dict[str, SourceLimits] = {}  # limits of single sources, by name
    groups: dict[str, GroupLimits] = {}  # limits of groups, by name
    max_synthetic: Share | None = None  # highest share of all synthetic sources together; null: no limit
    max_upsampling: AboveZero = 7.0  # times that the target may read a quality bucket (Olmo 3, 2025)
    natural_pull: NotNegative = 0.01  # times the divergence from the natural mix, in nats, added to the relative loss


class Confirm(Spec, frozen=True, kw_only=True):
    """Train the chosen mix and its rivals with fresh seeds, each seed shared by all of them."""

    seeds: Annotated[int, Meta(ge=2)] = 3  # of each mix
    proxy: Proxy | None = None  # a larger one, say; null: the swarm's
    tokens: Positive | None = None  # null: those of the proxy
    against: list[str] = field(default_factory=lambda: ["natural", "uniform"])  # compared with: natural, uniform, solved mixes (.yaml)

    def __post_init__(self) -> None:
        for name in self.against:
            if name not in RIVALS and not name.endswith((".yaml", ".yml")):
                raise ValueError(f"unknown rival '{name}'\nhint: known: {', '.join(RIVALS)}, or the path of a solved mix")
        if "natural" not in self.against:
            raise ValueError("against must name natural: the verdict is a comparison with it")
        if len(set(self.rivals)) != len(self.rivals) or "solved" in self.rivals:
            raise ValueError("two rivals have the same name, or one is called 'solved'\nhint: a solved mix is named after its file")

    @property
    def rivals(self) -> list[str]:
        """The names of the rivals; a solved mix is named after its file."""
        return [re.sub(r"(\.solved)?\.ya?ml$", "", name.rpartition("/")[2]) for name in self.against]


class Phase(Spec, frozen=True, kw_only=True):
    """A later phase of the same training run, such as mid-training: it starts where the phase before it ended, and what that has read counts."""

    name: Name  # of the phase
    target: Target  # the tokens of this phase alone
    evals: dict[Name, str | Eval] = {}  # {}: those of the mix
    sources: list[str] = []  # the sources that take part; []: all
    min_document_tokens: Positive = 1  # shorter documents stay out, for long context
    context: Positive | None = None  # tokens of a sequence; null: the proxy's
    learning_rate: AboveZero | None = None  # at its peak; null: the proxy's
    constraints: Constraints | None = None  # null: those of the mix

    def __post_init__(self) -> None:
        if self.evals and sum(suite.weight for suite in self.suites.values()) <= 0:
            raise ValueError(f"phase '{self.name}': all suites have weight 0: there is nothing to optimize")

    @property
    def suites(self) -> dict[str, Eval]:
        """The suites, with a plain path read as `{file: path}`."""
        return suites_of(self.evals)


def suites_of(evals: dict[str, str | Eval]) -> dict[str, Eval]:
    """Return the suites, with a plain path read as `{file: path}`."""
    return {name: Eval(file=suite) if isinstance(suite, str) else suite for name, suite in evals.items()}


class Mix(Spec, frozen=True, kw_only=True):
    """The top level of mixes/NAME.yaml."""

    name: Name  # of the mix
    target: Target  # the run that it is for
    evals: dict[Label, str | Eval]  # name: file, or name: {file, …}
    sources: list[str] | dict[Label, str | list[str] | Source] = []  # names of a workflow's sources ([]: all), or names and folders of token shards
    tokenizer: str | None = None  # a tokenizer.json; null: the workflow's
    description: str = ""  # one line
    swarm: Swarm = field(default_factory=Swarm)  # which mixes are tried
    proxy: Proxy = field(default_factory=Proxy)  # the small models
    law: str = "auto"  # auto: per suite, by leave-one-out error
    objective: str = "bits"  # bits: the fewest predicted bits; chance: the best chance of beating the natural mix
    constraints: Constraints = field(default_factory=Constraints)  # what a mix must satisfy
    confirm: Confirm = field(default_factory=Confirm)  # how the proposal is checked
    reuse: str | None = None  # a solved mix: the ratios among its unchanged sources are kept, and only the rest is solved again
    phases: list[Phase] = []  # later phases of the same run, solved in order

    def __post_init__(self) -> None:
        if not self.evals:
            raise ValueError("a mix needs at least one suite under evals")
        if sum(suite.weight for suite in self.suites.values()) <= 0:
            raise ValueError("all suites have weight 0: there is nothing to optimize")
        if self.law not in LAWS:
            raise ValueError(f"unknown law '{self.law}'\nhint: known: {', '.join(LAWS)}")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"unknown objective '{self.objective}'\nhint: known: {', '.join(OBJECTIVES)}")
        if len(self.sources) == 1:
            raise ValueError("one source alone needs no mix")
        limits = [("", self.constraints), *((f"phase '{phase.name}': ", phase.constraints) for phase in self.phases if phase.constraints is not None)]
        for whose, constraints in limits if self.sources else ():
            for name in constraints.sources:
                if name not in self.sources:
                    known = ", ".join(self.sources)
                    raise ValueError(f"{whose}constraints name the source '{name}', which is not in sources\nhint: known: {known}")
        if len({phase.name for phase in self.phases}) != len(self.phases):
            raise ValueError("two phases have the same name")
        if self.phases and self.confirm.proxy is not None and self.confirm.proxy.shape != self.proxy.shape:
            hint = "leave confirm.proxy out (confirm.tokens may be more), or make proxy as large"
            raise ValueError(f"phases go on from the confirming proxies, which therefore have the layers, width and heads of proxy\nhint: {hint}")

    @property
    def suites(self) -> dict[str, Eval]:
        """The suites, with a plain path read as `{file: path}`."""
        return suites_of(self.evals)


class TableMix(Mix, frozen=True, kw_only=True):
    """A mix for a swarm that was trained elsewhere: its sources and suites are called as columns are, whatever that is, and never name a folder."""

    evals: dict[Column, str | Eval]  # those of the mix
    sources: list[str] | dict[Column, str | list[str] | Source] = []  # those of the mix


def check_own(spec: Mix, where: str) -> None:
    """Raise SpecError for what only tables of a swarm that was trained elsewhere need: suites without a file, typed tokens, names that name none."""
    own = spec.sources if isinstance(spec.sources, dict) else {}
    for kind, names in (("sources", own), ("evals", spec.evals)):
        for name in names:
            if not re.fullmatch(NAME, name):
                hint = "a source or suite of proxies that are trained here has a name of letters, digits, _ and -"
                raise SpecError(f"'{name}' is a name for tables from elsewhere alone", where=f"{where}: {kind}", hint=hint)
    for name, source in own.items():
        if isinstance(source, Source) and source.tokens is not None:
            hint = "the tokens of a source that proxies train on are counted; its shards, or a workflow, say where they are"
            raise SpecError("`tokens` is for tables from elsewhere alone", where=f"{where}: sources.{name}", hint=hint)
    for at, suites in [("evals", spec.suites), *((f"phases.{phase.name}.evals", phase.suites) for phase in spec.phases)]:
        for name, suite in suites.items():
            if suite.file is None:
                raise SpecError("which file is it?", where=f"{where}: {at}.{name}", hint=f"{name}: FILE, or {name}: {{file: FILE}}")


class SolvedSource(Spec, frozen=True, kw_only=True):
    """What the solved mix says of one source; shares are of the target's tokens."""

    weight: Share  # what to train on
    solved: Share  # what the solver proposed: the same, unless the verdict keeps the natural mix
    low: Share  # 90 % interval of `solved` over resampled swarms
    high: Share  # its upper end
    natural: Share  # share in proportion to what there is
    available_tokens: int  # that the source has
    repeats: NotNegative  # of the source in the target, at `weight`


class SolvedScore(Spec, frozen=True, kw_only=True):
    """Bits per byte of one suite: as the law predicts them, and as the confirming proxies differ (solved minus natural)."""

    law: str  # that predicts it
    natural: float  # predicted for the natural mix
    solved: float  # predicted for the solved mix
    low: float  # 90 % interval of the prediction
    high: float  # its upper end
    confirmed: float | None = None  # measured with fresh seeds, solved minus natural
    confirmed_low: float | None = None  # 95 % interval
    confirmed_high: float | None = None  # its upper end
    verdict: str | None = None  # better, worse or no_difference_shown


class SolvedMix(Spec, frozen=True, kw_only=True):
    """The top level of mixes/NAME.solved.yaml: written by the tool, read by people, trainers and `curate mix diff`."""

    name: Name  # of the mix spec
    verdict: str  # better, no_difference_shown, worse, not_confirmed
    keep: str  # solved, or natural
    target_tokens: int  # of the run that it is for
    weights: dict[str, SolvedSource]  # per source
    scores: dict[str, SolvedScore]  # per suite
    predicted_gain: tuple[float, float, float]  # relative to natural, corrected for the winner's curse: mean, and 90 % interval
    warnings: list[str] = []  # what to know before trusting it
    made_from: dict[str, str] = {}  # what → hash
    spec: dict[str, Any] = {}  # the mix spec with every default filled in, whose hash is in made_from

    def __post_init__(self) -> None:
        total = sum(source.weight for source in self.weights.values())
        if abs(total - 1) > 1e-4:
            raise ValueError(f"the weights add up to {total:.6f}, not to 1")
