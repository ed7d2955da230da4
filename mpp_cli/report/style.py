"""How a report looks, by day and by night."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --ink: #1b2430; --soft: #5d6979; --rule: #dfe4ea;
  --in: #2563c9; --out: #0f9a72; --bad: #c0362c; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12161c; --card: #1b212a; --ink: #e6eaf0; --soft: #97a3b4; --rule: #303947;
  --in: #6ea4ff; --out: #42c79a; --bad: #ff7b70; --warn: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0 0 12px; }
p { margin: 0; }
.soft { color: var(--soft); }
.verdict { font-weight: 600; margin-top: 8px; }
.verdict.good { color: var(--out); } .verdict.bad { color: var(--bad); } .verdict.warn { color: var(--warn); }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 20px; margin-top: 18px; }
.tiles { margin: 0; display: grid; grid-template-columns: repeat(auto-fit, minmax(112px, 1fr)); gap: 16px; }
.tiles dt { color: var(--soft); font-size: 13px; }
.tiles dd { margin: 0; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles .bad dd { color: var(--bad); }
svg { display: block; width: 100%; height: auto; }
.grid { stroke: var(--rule); stroke-width: 1; }
.tick { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.in { stroke: var(--in); } .line.out { stroke: var(--out); }
.area { opacity: .13; } .area.in { fill: var(--in); } .area.out { fill: var(--out); }
.legend { display: flex; gap: 18px; color: var(--soft); font-size: 13px; margin-bottom: 6px; }
.legend span::before { content: ""; display: inline-block; width: 12px; height: 3px; border-radius: 2px;
  margin-right: 7px; vertical-align: middle; }
.legend .in::before { background: var(--in); } .legend .out::before { background: var(--out); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: 13px; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; }
.name { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px;
  overflow-wrap: anywhere; min-width: 180px; }
#failures td:last-child { min-width: 260px; overflow-wrap: anywhere; }
.kind { color: var(--bad); white-space: nowrap; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
