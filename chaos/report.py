"""A run's report: a table for people, JSON for programs."""

import statistics
from collections.abc import Sequence

import msgspec

from chaos.faults import KINDS
from chaos.run import Outcome, Report

SHOWN = 5
"""Examples of each thing that is wrong."""


def table(report: Report) -> str:
    """Markdown: a line a kind of fault, then the figures of the whole run."""
    lines = [
        "| fault | times | operations answer again, median (longest) | events flow again |",
        "|---|--:|--:|--:|",
    ]
    for kind in KINDS:
        outcomes = [one for one in report.outcomes if one.fault.kind == kind]
        if kind in report.impossible:
            lines.append(f"| {kind} | 0 | {report.impossible[kind]} | |")
        elif outcomes:
            lines.append(
                f"| {kind} | {len(outcomes)} | {_times([one.answering for one in outcomes])} "
                f"| {_times([one.flowing for one in outcomes])} |"
            )
    return "\n".join([*lines, "", *_figures(report)])


def _times(seconds: Sequence[float | None]) -> str:
    known = [each for each in seconds if each is not None]
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
        "ended by themselves": len(findings.ended_by_themselves),
    }
    rows = [f"| {name} | {figure} |" for name, figure in figures.items()]
    wrong: dict[str, Sequence[object]] = {
        "lost": verdict.lost,
        "twice": verdict.twice,
        "misordered": verdict.misordered,
        "half done": verdict.half_done,
        "unasked": verdict.unasked,
        "surprise": findings.surprises,
        "did not recover": [_named(one) for one in report.outcomes if one.flowing is None],
        "still on the way": [findings.unsettled] if findings.unsettled else [],
        "ended by itself": findings.ended_by_themselves,
    }
    words = [f"{what}: {each}" for what, found in wrong.items() for each in found[:SHOWN]]
    return ["| the run | |", "|---|--:|", *rows, *([""] if words else []), *words]


def _named(outcome: Outcome) -> str:
    return f"{outcome.fault.number} {outcome.fault.kind}: {outcome.fault.target}"


def as_json(report: Report) -> bytes:
    """All of it."""
    return msgspec.json.format(msgspec.json.encode(report))
