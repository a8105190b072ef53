"""Tables of Markdown from stored results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from evaluation.reports.intervals import Estimate
from results.cells import Suite
from results.outcomes import Outcome, load
from results.pages import line
from results.rows import Row, difference, rows_of
from results.suites import elsewhere, pretraining


@dataclass(frozen=True)
class Layout:
    """What a suite's table shows.

    Args:
        lengths: columns.
        short: length that must not be forgotten; empty for none.
        long: lengths whose mean is compared.
        against: rows to compare with, by heading.
        forgetting: row that the short length is compared with; empty for none.
        groups: heading of a second table, by group; empty for none.
        grouped: names of its rows.
        apart: row that every other one is compared with at each length, in another table; empty for none.
        others: scores beside sub-EM, which a longer answer raises and they do not.
        by_length: whether there is that other table.
    """

    lengths: tuple[str, ...]
    short: str
    long: tuple[str, ...]
    against: Mapping[str, str]
    forgetting: str
    groups: str = ""
    grouped: tuple[str, ...] = ()
    apart: str = ""
    others: tuple[str, ...] = ()
    by_length: bool = True


def _real(lengths: tuple[str, ...], short: str, long: tuple[str, ...], forgetting: str) -> Layout:
    """Of a suite of the real model: beside its base and short SFT, by F1 and EM, too."""
    against = {"base": "base", "SFT-short": "sft-short"}
    return Layout(lengths, short, long, against, forgetting, apart="sft-short", others=("f1", "em"))


_REAL = _real(("alone", "512", "1024", "2048", "4096"), "alone", ("1024", "2048"), "first-stage-scores")
_LOGO = ("logo-none", "logo-continuous", "logo-sparse", "logo-mixed")
_STAGES = tuple(map(str, pretraining.LENGTHS))
_LINKED = "docs/results/stored"  # from the page
_MAIN = ("mean score", "mean", "perplexity")  # columns of tables that runs have made
LAYOUTS = {
    **dict.fromkeys(("smollm2", "smollm2-twohop", "smollm2-shared"), _REAL),
    "smollm2-shared-quoted": replace(_REAL, by_length=False),
    "smollm2-elsewhere": _real(
        ("hotpotqa alone", "hotpotqa", "musique alone", "musique"),
        "hotpotqa alone",
        ("hotpotqa", "musique"),
        "sft-short",
    ),
    "smollm2-longbench": replace(_real(elsewhere.TASKS, "", elsewhere.TASKS, ""), by_length=False),
    "pretraining": Layout(_STAGES, "", _STAGES, {}, ""),
    "embedded": Layout(
        ("64", "128", "256", "384", "512"),
        "64",
        ("256", "384", "512"),
        {"base": "base", "SFT-short": "sft-short", "SFT-long": "sft-long"},
        "base",
        "depth",
        ("base", "sft-short", "sft-long", "orpo-long", "dpo-long", "solopo-orpo", "longpo", *_LOGO),
    ),
}


def markdown(suite: Suite, folder: Path) -> str:
    """The suite's tables; a line that says so where nothing is stored."""
    outcomes = load(folder)
    if shown := [item for item in outcomes.values() if "tables" in item.facts]:
        return _shown(shown)
    rows = rows_of(outcomes)
    if not rows:
        return "No results are stored."
    layout = LAYOUTS[suite.name]
    parts = [_main(rows, layout, folder, shared=suite.questions_share_contexts), *_ranked(outcomes)]
    parts += [*_filters(outcomes), *_builds(outcomes, by_seed=suite.pairs_by_seed)]
    parts.append(_machines(rows))
    if layout.by_length and layout.apart in rows:
        parts.append(_by_length(rows, layout, shared=suite.questions_share_contexts))
    if layout.groups:
        parts.append(_by_group(rows, layout))
    return "\n\n".join(parts)


def _shown(outcomes: Sequence[Outcome]) -> str:
    """What the tables of the runs say, a line for each, and where they ran."""
    tables = [(item.key, table) for item in outcomes for table in item.facts["tables"]]
    lines = [line(["configuration", "table", "figures"]), line(["---"] * 3)]
    lines += [line([cell, table["title"], figures]) for cell, table in tables if (figures := _figures(table))]
    minutes = sum(item.machine.get("seconds", 0.0) for item in outcomes) / 60
    places = {f"{_computed_on(item.machine)}, torch {item.machine.get('torch')}" for item in outcomes}
    commits = sorted({str(item.machine.get("commit")) for item in outcomes})
    where = f"Ran on {'; '.join(sorted(places))}; commit {', '.join(commits)}; {minutes:.0f} minutes beside other jobs."
    return "\n\n".join(["\n".join(lines), where])


def _figures(table: Mapping[str, Any]) -> str:
    """The main column, row by row; empty for a table without one, which shows the figures of another in parts."""
    main = next((table["header"].index(name) for name in _MAIN if name in table["header"]), None)
    return "" if main is None else ", ".join(f"{row[0]} {row[main]}" for row in table["rows"])


def _main(rows: Mapping[str, Row], layout: Layout, folder: Path, *, shared: bool) -> str:
    lengths = [length for length in layout.lengths if any(length in row.outcomes[0].scores for row in rows.values())]
    long = [length for length in layout.long if length in lengths] or lengths[-1:]
    mean = " and ".join(number(length) for length in long) if len(long) < 3 else "long" if layout.short else "all"
    f1 = bool(layout.others) and any(item.f1 for row in rows.values() for item in row.outcomes)
    header = [
        *("sub-EM %", "seeds", *map(number, lengths), f"mean of {mean}"),
        *(f"its {name.upper()}" for name in layout.others),
        *([f"F1 minus {layout.apart}"] if f1 else []),
        *(f"minus {name}" for name in layout.against),
        *([f"{layout.short} minus {layout.forgetting}"] if layout.forgetting else []),
        *("steps", "M tokens", "TFLOP", "s"),
    ]
    lines = [line(header), line(["---", *["---:"] * (len(header) - 1)])]
    ordered = sorted(rows.values(), key=lambda row: (row.cost("steps") is not None, -row.mean(long)))
    for row in ordered:
        others = [rows.get(name) for name in layout.against.values()]
        cells = [row.name, _seeds(row, folder), *(f"{row.mean([length]):.1f}" for length in lengths)]
        cells += [f"{row.mean(long):.1f}", *(f"{row.other(name, long):.1f}" for name in layout.others)]
        cells += [_f1_gap(row, rows.get(layout.apart), long, shared=shared)] if f1 else []
        cells += [*(_gap(row, other, long, shared=shared) for other in others)]
        cells += [_gap(row, rows.get(layout.forgetting), [layout.short], shared=shared)] if layout.forgetting else []
        lines.append(line([*cells, *_costs(row)]))
    return "\n".join(lines)


def _seeds(row: Row, folder: Path) -> str:
    """Each seed with a link to its training's resolved configuration, or to its result where there is none here."""
    links = list[str]()
    for item in row.outcomes:
        kind = "yaml" if (folder / f"{item.key}.yaml").exists() else "json"
        links.append(f"[{item.seed or '-'}]({_LINKED}/{folder.name}/{item.key}.{kind})")
    return " ".join(links)


def _costs(row: Row) -> list[str]:
    steps, tokens = row.cost("steps"), row.cost("tokens", "reference_tokens")
    flops, seconds = row.cost("flops", "reference_flops"), row.cost("seconds")
    if steps is None or tokens is None or flops is None or seconds is None:
        return ["", "", "", ""]
    return [f"{steps:,.0f}", f"{tokens / 1e6:.2f}", f"{flops / 1e12:,.1f}", f"{seconds:,.0f}"]


def _gap(row: Row, other: Row | None, lengths: Sequence[str], *, shared: bool) -> str:
    """Points with an interval; empty for a row against itself."""
    if other is None or other.name == row.name or lengths[0] not in other.outcomes[0].scores:
        return ""
    return points(difference(row, other, lengths, shared=shared))


def _f1_gap(row: Row, other: Row | None, lengths: Sequence[str], *, shared: bool) -> str:
    """The same by F1, over the seeds for which both have kept it, named where others have not."""
    if other is None or other.name == row.name:
        return ""
    kept = [Row(each.name, tuple(item for item in each.outcomes if item.f1)) for each in (row, other)]
    seeds = [{item.seed for item in each.outcomes} for each in (row, other)]
    common = set.intersection(*({item.seed for item in each.outcomes} for each in kept))
    if not common:
        return ""
    gap = points(difference(*kept, lengths, shared=shared, score=Row.f1))
    named = f"seed{'s' if len(common) > 1 else ''} {', '.join(map(str, sorted(common)))}"
    return gap if common == seeds[0] & seeds[1] else f"{gap} ({named})"


def points(found: Estimate) -> str:
    """A difference in points, with its interval."""
    return f"{100 * found.mean:+.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _ranked(outcomes: Mapping[str, Outcome]) -> list[str]:
    """What the models that trainings start from make of the pairs."""
    found = list[str]()
    for name, item in sorted(outcomes.items()):
        if "val/rewards/accuracies" in item.facts:
            right, margin = (item.facts[f"val/rewards/{what}"][0] for what in ("accuracies", "margins"))
            found.append(f"{name}: {100 * right:.1f} % of the pairs ranked right before training, margin {margin:.3f}.")
    return ["\n".join(found)] if found else []


def _filters(outcomes: Mapping[str, Outcome]) -> list[str]:
    """What the filter of flipped labels lets through and leaves out, by the context that its model reads."""
    found = list[str]()
    for name, item in sorted(outcomes.items()):
        for context, counts in item.facts.get("filter", {}).items():
            flipped = f"of {counts['flipped']:,} flipped pairs it keeps {counts['flipped, kept']:,}"
            right = f"of {counts['right']:,} others it leaves out {counts['right, left out']:,}"
            found.append(f"{name}, which reads the {context}: {flipped}, {right}.")
    return ["\n".join(found)] if found else []


def _builds(outcomes: Mapping[str, Outcome], *, by_seed: bool) -> list[str]:
    """Which results are of pairs from another build than the others (of their seed), and so compare data too."""
    meant = dict[int, dict[str, list[str]]]()  # builds of those that are compared
    for key, item in sorted(outcomes.items()):
        if item.costs:
            builds = meant.setdefault(item.seed if by_seed else 0, {})
            builds.setdefault(item.facts.get("pairs", "not written down"), []).append(key)
    mixed = [build for builds in meant.values() if len(builds) > 1 for build in builds.items()]
    if not mixed:
        return []
    listed = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in sorted(mixed))
    return [f"Trained on pairs of different builds, so gaps between them are of data too. {listed}."]


def _by_length(rows: Mapping[str, Row], layout: Layout, *, shared: bool) -> str:
    """What each training gains over one of them, at every length and at those beyond the first that is compared."""
    other = rows[layout.apart]
    lengths = [length for length in layout.lengths if length in other.outcomes[0].scores]
    beyond = [length for length in lengths if length.isdigit() and int(length) > int(layout.long[0])]
    columns = [*([length] for length in lengths), *([beyond] if len(beyond) > 1 else [])]
    header = [f"points minus {other.name}", *(" and ".join(map(number, column)) for column in columns)]
    lines = [line(header), line(["---", *["---:"] * len(columns)])]
    kind = other.cost("steps") is not None  # rows without a training are of another kind, unless all are
    trained = [row for row in rows.values() if (row.cost("steps") is not None) == kind and row.name != other.name]
    for row in sorted(trained, key=lambda row: -row.mean(layout.long)):
        lines.append(line([row.name, *(_gap(row, other, column, shared=shared) for column in columns)]))
    return "\n".join(lines)


def _by_group(rows: Mapping[str, Row], layout: Layout) -> str:
    """Means of the long lengths by depth."""
    long = list(layout.long)
    groups = sorted({group for row in rows.values() for group in row.outcomes[0].scores[long[0]]}, key=float)
    header = [f"sub-EM % by {layout.groups}, long", *groups]
    lines = [line(header), line(["---", *["---:"] * len(groups)])]
    shown = [row for row in rows.values() if row.name in layout.grouped]
    for row in sorted(shown, key=lambda row: -row.mean(long)):
        scores = row.scores(long)
        means = [100 * fmean(value for (_, name, _), value in scores.items() if name == group) for group in groups]
        lines.append(line([row.name, *(f"{mean:.1f}" for mean in means)]))
    return "\n".join(lines)


def _machines(rows: Mapping[str, Row]) -> str:
    """Where and at which commits."""
    outcomes = (item for row in rows.values() for item in row.outcomes)
    machines = (where for item in outcomes for where in (item.machine.get("trained on"), item.machine) if where)
    places = dict[str, set[str]]()
    for where in machines:
        place = f"{_computed_on(where)}, torch {where.get('torch')}"
        places.setdefault(place, set()).add(str(where.get("commit")))
    ran = "; ".join(f"{place} ({', '.join(sorted(commits))})" for place, commits in sorted(places.items()))
    return f"Ran on (commits in brackets) {ran}. Seconds are of trainings that shared the machine with others."


def _computed_on(machine: Mapping[str, Any]) -> str:
    """The card; else the processor and its cores."""
    cores = f", {machine['cores']} cores" if "cores" in machine else ""
    return str(machine.get("accelerator") or f"{machine.get('processor')}{cores}")


def number(length: str) -> str:
    """A length as columns name it."""
    return f"{int(length):,}" if length.isdigit() else length
