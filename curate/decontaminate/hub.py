"""A data set of the Hugging Face hub → the files of one configuration and split.

Which files those are is read from the `configs` of the data set's README, as the hub does, and otherwise from their names. Only
files of data are read (Parquet, JSON lines, JSON, CSV): no script of a data set is ever run. Without a network, what an earlier
run left in the local cache is used. A folder on this machine that is laid out like a data set works the same way.

What is traded away: a data set that consists of a script has no files here; most have a Parquet copy under the revision
`refs/convert/parquet`. A branch may move between runs: name a commit as `revision` to hold it.
"""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

from curate.decontaminate.rows import KINDS, kind_of
from curate.errors import CurateError, InputError, MissingExtra, SpecError
from curate.specs.benchmarks import Benchmark

CONVERTED = "refs/convert/parquet"


def files_of_dataset(name: str, benchmark: Benchmark, root: Path) -> list[Path]:
    """Return the files of `benchmark.hub`, downloaded into the hub's cache if they are not there.

    Raises MissingExtra without the package huggingface_hub, InputError when the data set cannot be had, and SpecError
    when it has no such configuration or split.
    """
    assert benchmark.hub is not None
    local = root / benchmark.hub
    folder = local if local.is_dir() else _downloaded(name, benchmark)
    listed = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [folder / file for file in chosen(listed, _configs(folder), benchmark, f"benchmark '{name}', {benchmark.hub}")]


def _configs(folder: Path) -> dict[str, dict[str, list[str]]]:
    readme = folder / "README.md"
    return declared(readme.read_text(encoding="utf-8", errors="replace")) if readme.is_file() else {}


def _wanted(configs: dict[str, dict[str, list[str]]], benchmark: Benchmark) -> list[str]:
    """Return globs of the files that could be the split's: a data set may have terabytes of others."""
    named = [glob for name, splits in configs.items() if benchmark.config in (None, name) for glob in splits.get(benchmark.split, [])]
    return ["README.md", *(named or [f"*{benchmark.split}*{kind}{packed}" for kind in KINDS for packed in ("", ".gz")])]


def _downloaded(name: str, benchmark: Benchmark) -> Path:
    """Return the local snapshot of the data set, with the files that could be the split's."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError
    except ImportError as error:
        raise MissingExtra.named("huggingface_hub", "hub", "a benchmark of the Hugging Face hub") from error
    import httpx

    where = f"benchmark '{name}', {benchmark.hub}"

    def fetch(local_files_only: bool) -> Path:
        options: dict[str, Any] = {"repo_type": "dataset", "revision": benchmark.revision, "local_files_only": local_files_only}
        folder = snapshot_download(str(benchmark.hub), allow_patterns=["README.md"], **options)
        return Path(snapshot_download(str(benchmark.hub), allow_patterns=_wanted(_configs(Path(folder)), benchmark), **options))

    try:
        return fetch(False)
    except HFValidationError as error:
        raise SpecError(f"'{benchmark.hub}' is neither an id on the Hugging Face hub nor a folder", where=where) from error
    except RepositoryNotFoundError as error:
        hint = "check the id; a private or gated data set needs `hf auth login`"
        raise InputError("no such data set on the Hugging Face hub, or no access to it", where=where, hint=hint) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, httpx.HTTPError, OSError) as error:
        try:
            return fetch(True)
        except (LocalEntryNotFoundError, OSError):
            hint = "download it once with a network: the local cache is used from then on; or name its files with `file`"
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"cannot be had from the hub, and is not in the local cache: {reason}", where=where, hint=hint) from error


def declared(readme: str) -> dict[str, dict[str, list[str]]]:
    """Return {configuration: {split: globs}} that the head of a data set's README declares; empty where it declares none."""
    import yaml

    found = re.match(r"---\s*\n(.*?)\n---", readme, re.S)
    try:
        head = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return {}
    configs: dict[str, dict[str, list[str]]] = {}
    for config in head.get("configs") or [] if isinstance(head, dict) else []:
        if not isinstance(config, dict) or "data_files" not in config:
            continue
        files = config["data_files"]
        splits = files if isinstance(files, list) else [files]
        own = configs.setdefault(str(config.get("config_name", "default")), {})
        for one in splits:
            if isinstance(one, dict) and "path" in one:
                paths = one["path"] if isinstance(one["path"], list) else [one["path"]]
                own.setdefault(str(one.get("split", "train")), []).extend(map(str, paths))
    return configs


def chosen(files: list[str], configs: dict[str, dict[str, list[str]]], benchmark: Benchmark, where: str) -> list[str]:
    """Return which of `files`, relative and sorted, are the configuration's split. Raises SpecError when that is none, or unclear."""
    data = [file for file in files if kind_of(Path(file)) in KINDS and Path(file.removesuffix(".gz")).suffix.lower() in KINDS]
    if configs and (benchmark.config is None or benchmark.config in configs):
        return _as_declared(data, configs, benchmark, where)
    of_split = [file for file in data if benchmark.split in re.split(r"[/._-]", file)]
    by_config: dict[str, list[str]] = {}
    for file in of_split:
        by_config.setdefault(_config_of(file, benchmark.split), []).append(file)
    if benchmark.config is not None and benchmark.config in by_config:
        return by_config[benchmark.config]
    if benchmark.config is not None and benchmark.config != "default":
        raise _unclear(f"has no configuration '{benchmark.config}' with a split '{benchmark.split}'", sorted(by_config), where)
    if len(by_config) > 1:
        raise _unclear("has several configurations", sorted(by_config), where)
    if not by_config:
        hint = f"set `split`; its files of data are {', '.join(data[:8])}" if data else f"set `revision: {CONVERTED}`, or name its files with `file`"
        raise SpecError(f"has no file of the split '{benchmark.split}'", where=where, hint=hint)
    return next(iter(by_config.values()))


def _as_declared(data: list[str], configs: dict[str, dict[str, list[str]]], benchmark: Benchmark, where: str) -> list[str]:
    name = benchmark.config or ("default" if "default" in configs else next(iter(configs)))
    if benchmark.config is None and len(configs) > 1 and "default" not in configs:
        raise _unclear("has several configurations", sorted(configs), where)
    splits = configs[name]
    if benchmark.split not in splits:
        raise SpecError(f"configuration '{name}' has no split '{benchmark.split}'", where=where, hint=f"it has {', '.join(sorted(splits))}")
    found = [file for file in data if any(fnmatch.fnmatchcase(file, glob) for glob in splits[benchmark.split])]
    if not found:
        raise InputError(f"none of its files is {' or '.join(splits[benchmark.split])}", where=where, hint="is the download complete?")
    return found


def _config_of(file: str, split: str) -> str:
    """Return the configuration that a file's name speaks of: the folder before the split, or what stands before it in the name."""
    parts = file.split("/")
    folders = [part for part in parts[:-1] if part not in ("data", split)]
    if folders:
        return "/".join(folders)
    before = re.split(rf"[._-]?{re.escape(split)}(?=[._-])", parts[-1], maxsplit=1)[0]
    return before if before and before != parts[-1] else "default"


def _unclear(what: str, names: list[str], where: str) -> CurateError:
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return SpecError(
        what, where=where, hint=f"set `config` to one of {listed}" if names else f"set `revision: {CONVERTED}`, or name its files with `file`"
    )
