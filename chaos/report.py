"""Format the report of a run as Markdown or JSON."""

import statistics
from collections.abc import Sequence

import msgspec

from chaos.faults import KINDS
from chaos.run import Outcome, Report

MAX_EXAMPLES = 5
"""Examples shown for each failed check."""


def table(report: Report) -> str:
    """Return Markdown: a row for each kind of fault, then the figures of the run."""
    lines = [
        "| fault | times | operations answer again, median (longest) | events flow again |",
        "|---|--:|--:|--:|",
    ]
    for kind in KINDS:
        outcomes = [outcome for outcome in report.outcomes if outcome.fault.kind == kind]
        if kind in report.impossible:
            lines.append(f"| {kind} | 0 | {report.impossible[kind]} | |")
        elif outcomes:
            lines.append(
                f"| {kind} | {len(outcomes)} "
                f"| {_times([outcome.answering for outcome in outcomes])} "
                f"| {_times([outcome.flowing for outcome in outcomes])} |"
            )
    return "\n".join([*lines, "", *_figures(report)])


def _times(seconds: Sequence[float | None]) -> str:
    known = [duration for duration in seconds if duration is not None]
    never = f", {len(seconds) - len(known)} never" if len(known) < len(seconds) else ""
    if not known:
        return f"never{never}"
    return f"{statistics.median(known):.2f} s ({max(known):.1f} s){never}"


def _figures(report: Report) -> list[str]:
    findings, verdict = report.findings, report.findings.verdict
    figures = {
        "seed": report.seed,
        "faults": f"{len(report.outcomes)} in {findings.took:.0f} s",
        "operations": f"{findings.operations}, {findings.uncertain} without a certain answer",
        "direct publishes": findings.published,
        "events acknowledged": verdict.acknowledged,
        "events stored": verdict.stored,
        "**lost**": f"**{len(verdict.lost)}**",
        "**twice**": f"**{len(verdict.twice)}**",
        "**misordered**": f"**{len(verdict.misordered)}**",
        "half done": len(verdict.half_done),
        "unasked": len(verdict.unasked),
        "dead letters": findings.dead_letters,
        "longest time without any answer": f"{findings.longest_unavailable:.1f} s",
        "unexpected ends": len(findings.unexpected_ends),
    }
    rows = [f"| {name} | {figure} |" for name, figure in figures.items()]
    wrong: dict[str, Sequence[object]] = {
        "lost": verdict.lost,
        "twice": verdict.twice,
        "misordered": verdict.misordered,
        "half done": verdict.half_done,
        "unasked": verdict.unasked,
        "surprise": findings.surprises,
        "did not recover": [
            _name_of(outcome) for outcome in report.outcomes if outcome.flowing is None
        ],
        "not stored in time": [findings.unstored] if findings.unstored else [],
        "ended unexpectedly": findings.unexpected_ends,
    }
    examples = [
        f"{check}: {example}" for check, found in wrong.items() for example in found[:MAX_EXAMPLES]
    ]
    return ["| the run | |", "|---|--:|", *rows, *([""] if examples else []), *examples]


def _name_of(outcome: Outcome) -> str:
    return f"{outcome.fault.number} {outcome.fault.kind}: {outcome.fault.target}"


def as_json(report: Report) -> bytes:
    """Return the whole report as JSON."""
    return msgspec.json.format(msgspec.json.encode(report))
