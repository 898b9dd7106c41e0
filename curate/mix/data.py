"""What a mix is made of: the token shards of its sources, counted, the tokenizer, and the suites.

A source is one folder of token shards or several, or a set of quality buckets. A bucket is a source of its own to everything that follows,
called SOURCE.BUCKET; only the limits know that the buckets of one source belong together. Sources and buckets alike are *leaves*.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from curate.corpus import Manifest, read_manifest
from curate.errors import InputError, SpecError
from curate.mix.limits import Traits
from curate.project import resolve, root_of, start_of
from curate.specs.load import nearest, resolved
from curate.specs.mix import Eval, Mix, Phase, Proxy, Source, check_own


class Data(msgspec.Struct, frozen=True):
    """What a mix is made of. All maps from leaves are sorted by name."""

    folders: dict[str, list[Path]]  # leaf → folders of token shards
    tokens: dict[str, int]  # leaf → tokens that there are
    contents: dict[str, str]  # leaf → what stands for its tokens
    traits: dict[str, Traits]
    tokenizer: Path
    suites: dict[str, dict[str, Any]]  # suite → its resolved spec, with an absolute file


def gather(spec: Mix, spec_file: Path, tokens: Mapping[str, Path], tokenizer: Path | None) -> Data:
    """Find what the spec names; `tokens` maps the sources of a workflow's run to their folders, `tokenizer` is the run's.

    Raises SpecError for a source that the run does not have, and for missing files.
    """
    check_own(spec, str(spec_file))
    root, beside = root_of(spec_file), spec_file.resolve().parent
    if spec.tokenizer is not None:
        tokenizer = resolve(spec.tokenizer, root, beside)
    if tokenizer is None or not tokenizer.is_file():
        raise SpecError("there is no tokenizer", where="tokenizer", hint="name the tokenizer.json that the token shards were made with")
    folders = folders_of(leaves(spec, list(tokens)), tokens, spec_file)
    manifests = {leaf: [read_manifest(folder) for folder in found] for leaf, found in folders.items()}
    counts = count(manifests)
    contents = {leaf: json.dumps([manifest.files for manifest in found], sort_keys=True) for leaf, found in manifests.items()}
    return Data(folders, counts, contents, traits_of(spec, folders), tokenizer, find_suites(spec.suites, spec_file))


def leaves(spec: Mix, known: list[str]) -> dict[str, list[str] | None]:
    """Return leaf → folders or patterns as the spec names them, None for a source of the workflow; sorted by leaf.

    Raises SpecError for a source that is neither among `known`, the workflow's, nor has folders of its own.
    """
    found: dict[str, list[str] | None] = {}
    for name, source in sources_of(spec, known).items():
        made = [name, *(f"{name}.{bucket}" for bucket in source.buckets)]
        if not found.keys().isdisjoint(made):
            raise SpecError(f"a bucket and a source are both called '{next(leaf for leaf in made if leaf in found)}'", where="sources")
        if source.buckets:
            found |= {f"{name}.{bucket}": [where] if isinstance(where, str) else where for bucket, where in source.buckets.items()}
        elif source.shards is not None:
            found[name] = [source.shards] if isinstance(source.shards, str) else source.shards
        elif name in known:
            found[name] = None
        else:
            hint = nearest(name, known) if known else "name the folder that a tokenize step wrote"
            raise SpecError(f"the run has no source '{name}'", where="sources", hint=hint)
    if len(found) < 2:
        raise SpecError("a mix needs two sources or more", where="sources")
    return dict(sorted(found.items()))


def sources_of(spec: Mix, known: list[str]) -> dict[str, Source]:
    """Return the sources of a mix in one form; `known` are those of the workflow."""
    if not isinstance(spec.sources, dict):
        return {name: Source() for name in spec.sources or sorted(known)}
    return {name: source if isinstance(source, Source) else Source(shards=source) for name, source in spec.sources.items()}


def traits_of(spec: Mix, leaves: Mapping[str, Any]) -> dict[str, Traits]:
    """Return what limits need to know of each leaf."""
    sources = sources_of(spec, list(leaves))
    found = {}
    for leaf in leaves:
        name, _, bucket = leaf.rpartition(".")
        if name in sources and bucket in sources[name].buckets:
            source = sources[name]
            found[leaf] = Traits(source.group, source.synthetic, name, list(source.buckets).index(bucket))
        else:
            found[leaf] = Traits(sources[leaf].group, sources[leaf].synthetic)
    return found


def folders_of(named: Mapping[str, list[str] | None], tokens: Mapping[str, Path], spec_file: Path) -> dict[str, list[Path]]:
    """Return leaf → folders of token shards, for leaves as `leaves` returns them; `tokens` has those of the workflow's sources.

    Raises SpecError for a folder that is not there, and InputError for one that two leaves have: its tokens would be counted twice, and read
    twice as often as the limits say. Folders are the same where they lead to the same place. One within another is no repetition: the tokens
    of a folder are those of the shards that lie in it.
    """
    root, beside = root_of(spec_file), spec_file.resolve().parent
    found: dict[str, list[Path]] = {}
    leaf_of: dict[Path, str] = {}
    for leaf, patterns in named.items():
        found[leaf] = [tokens[leaf]] if patterns is None else _folders(patterns, leaf, root, beside)
        for folder in found[leaf]:
            other = leaf_of.setdefault(folder.resolve(), leaf)
            if other != leaf:
                hint = "take it out of one of them: its tokens would be counted twice (a pattern may match more than was meant)"
                raise InputError(f"{folder} belongs to both {other} and {leaf}", where=f"{spec_file}: sources", hint=hint)
    return found


def _folders(patterns: list[str], leaf: str, root: Path, beside: Path) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        path = resolve(pattern, root, beside)
        literal_start = Path(glob.escape(str(start_of(pattern, root, beside))))  # wildcards count in the pattern only
        matches = sorted(Path(match) for match in glob.glob(str(resolve(pattern, literal_start)))) if glob.has_magic(pattern) else [path]
        matches = [match for match in matches if match.is_dir()]
        if not matches:
            raise SpecError(f"no such folder: {path}", where=f"sources.{leaf}", hint="name a folder that a tokenize step wrote")
        found += matches
    first: dict[Path, Path] = {}  # a folder that is named twice counts once, whatever links lead to it
    for folder in found:
        first.setdefault(folder.resolve(), folder)
    return list(first.values())


def count(manifests: Mapping[str, list[Manifest]]) -> dict[str, int]:
    """Return leaf → tokens in its folders, whose manifests these are. Raises InputError for leaves without any."""
    counts = {leaf: sum(int(note.get("num_tokens", 0)) for one in found for note in one.notes.values()) for leaf, found in manifests.items()}
    empty = sorted(leaf for leaf, tokens in counts.items() if tokens == 0)
    if empty:
        raise InputError(f"no tokens in {', '.join(empty)}", where="sources", hint="they must be folders that a tokenize step wrote")
    return counts


def find_suites(evals: Mapping[str, Eval], spec_file: Path) -> dict[str, dict[str, Any]]:
    """Return suite → its resolved spec with an absolute file. Raises SpecError for a file that is not there."""
    root, beside = root_of(spec_file), spec_file.resolve().parent
    suites = {}
    for name, suite in evals.items():
        path = resolve(suite.file or "", root, beside)
        if not path.is_file():
            raise SpecError(f"no such file: {path}", where=f"evals.{name}")
        suites[name] = resolved(suite) | {"file": str(path)}
    return suites


def in_phase(spec: Mix, data: Data, phase: Phase, spec_file: Path) -> tuple[Mix, Data]:
    """Return the mix and its data as a later phase sees them: its budget, suites, sources and documents."""
    from curate.tokens.shards import TokenShards

    source = {leaf: data.traits[leaf].source or leaf for leaf in data.folders}
    names = set(phase.sources or source.values())
    kept = [leaf for leaf in data.folders if source[leaf] in names]
    unknown = sorted(names - set(source.values()))
    if unknown:
        of = source.get(unknown[0])  # a bucket is no source, but belongs to one
        hint = f"it is a bucket of {of}, whose buckets take part together: name '{of}'" if of else nearest(unknown[0], sorted(set(source.values())))
        raise SpecError(f"the mix has no source '{unknown[0]}'", where=f"phases.{phase.name}.sources", hint=hint)
    if len(kept) < 2:
        raise SpecError("a phase needs two sources or more", where=f"phases.{phase.name}.sources")
    counts = {leaf: data.tokens[leaf] for leaf in kept}
    if phase.min_document_tokens > 1:
        for leaf in kept:
            sizes = [TokenShards(folder).num_tokens for folder in data.folders[leaf]]
            counts[leaf] = int(sum(size[size >= phase.min_document_tokens].sum() for size in sizes))
            if counts[leaf] == 0:
                what = f"no document of {leaf} has {phase.min_document_tokens:,} tokens"
                raise InputError(what, where=f"phases.{phase.name}", hint="lower min_document_tokens, or name the sources that take part")
    changes: dict[str, Any] = {"name": f"{spec.name}-{phase.name}", "target": phase.target, "phases": [], "reuse": None}
    changes["evals"] = phase.evals or spec.evals
    changes["proxy"] = _proxy_of(spec.proxy, phase)
    if spec.confirm.proxy is not None:
        changes["confirm"] = msgspec.structs.replace(spec.confirm, proxy=_proxy_of(spec.confirm.proxy, phase))
    changes["constraints"] = phase.constraints if phase.constraints is not None else _only(spec, names, [data.traits[leaf] for leaf in kept])
    suites = find_suites(phase.suites, spec_file) if phase.evals else data.suites
    narrow = {name: {leaf: getattr(data, name)[leaf] for leaf in kept} for name in ("folders", "contents", "traits")}
    return msgspec.structs.replace(spec, **changes), msgspec.structs.replace(data, tokens=counts, suites=suites, **narrow)


def _proxy_of(proxy: Proxy, phase: Phase) -> Proxy:
    changes = {name: value for name in ("context", "learning_rate") if (value := getattr(phase, name)) is not None}
    try:
        return msgspec.convert(resolved(proxy) | changes, Proxy)
    except msgspec.ValidationError as error:
        raise SpecError(str(error), where=f"phases.{phase.name}", hint="it has the proxy of the mix but for context and learning_rate") from error


def _only(spec: Mix, names: set[str], traits: Sequence[Traits]) -> Any:
    """Return the constraints of the mix without those of sources that do not take part, and of groups and synthetic text of which none does."""
    groups, made = {trait.group for trait in traits}, any(trait.synthetic for trait in traits)
    sources = {name: limits for name, limits in spec.constraints.sources.items() if name in names}
    kept = {name: limits for name, limits in spec.constraints.groups.items() if name in groups}
    most = spec.constraints.max_synthetic if made else None
    return msgspec.structs.replace(spec.constraints, sources=sources, groups=kept, max_synthetic=most)
