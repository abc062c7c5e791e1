"""The look of the report: one style sheet, light and dark, wide and narrow."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #1d2129; --soft: #5c6470; --line: #e4e2dd; --grid: #eeece7;
  --a: #2563a8; --b: #c2571a; --c: #2f7d54; --d: #8a4f9e;
  --fill: #c9dbee;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1b1e24; --ink: #e8e6e1; --soft: #9aa2ae; --line: #2e333c; --grid: #262a32;
    --a: #74aee8; --b: #ee9a62; --c: #74c297; --d: #c797d8;
    --fill: #2c4561;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1120px; margin: 0 auto; padding: 48px 24px 64px; }
header p, .note { color: var(--soft); margin: 4px 0 0; }
h1 { font-size: 28px; line-height: 1.2; font-weight: 650; letter-spacing: -0.015em; margin: 0;
  overflow-wrap: anywhere; }
h2 { font-size: 17px; font-weight: 650; margin: 0 0 2px; }
section { margin-top: 40px; }
section > .note, figcaption { font-size: 14px; color: var(--soft); margin: 0 0 12px; max-width: 70ch; }
.tiles { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 12px; margin: 28px 0 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 16px 10px; }
.tiles dt { font-size: 13px; color: var(--soft); }
.tiles dd { margin: 2px 0 0; font-size: 24px; line-height: 1.25; font-weight: 600; letter-spacing: -0.01em; }
.tiles dd small { font-size: 14px; font-weight: 400; color: var(--soft); letter-spacing: 0;
  margin-left: 2px; }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px; margin-top: 20px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 0 20px; }
figure, .card { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px 12px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 10px; font-size: 13px; }
.legend i { display: inline-block; width: 16px; height: 3px; border-radius: 2px; margin-right: 7px;
  vertical-align: middle; }
.legend .a { background: var(--a); } .legend .b { background: var(--b); }
.legend .c { background: var(--c); } .legend .d { background: var(--d); }
figure svg { display: block; width: 100%; height: auto; }
.card { padding: 6px 20px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 7px 24px 7px 0; border-top: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; min-width: 7em; }
tr > :last-child { padding-right: 0; }
thead th { border-top: 0; font-weight: 500; color: var(--soft); overflow-wrap: normal;
  vertical-align: bottom; }
tbody th { font-weight: 400; }
.n { text-align: right; white-space: nowrap; min-width: 0; }
.config { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap: 20px;
  margin-top: 12px; align-items: start; }
.config .card { padding-bottom: 10px; }
.config h3 { font-size: 14px; font-weight: 600; margin: 10px 0 6px; }
.config td:last-child { text-align: right; }
.config th, .config td { min-width: 0; padding-right: 12px; }
.config th { color: var(--soft); white-space: nowrap; }
.config td:last-child { padding-right: 0; }
footer { margin-top: 48px; font-size: 13px; color: var(--soft); }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--soft);
  font-variant-numeric: tabular-nums; }
svg .value { fill: var(--ink); }
svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--soft); }
svg .ideal { stroke: var(--soft); stroke-dasharray: 4 4; }
svg .bar { fill: var(--fill); }
svg .bar:hover { fill: var(--a); }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .hit { fill: transparent; }
svg .a { stroke: var(--a); } svg .b { stroke: var(--b); }
svg .c { stroke: var(--c); } svg .d { stroke: var(--d); }
svg .a-dot, svg .hit.a:hover { fill: var(--a); } svg .b-dot, svg .hit.b:hover { fill: var(--b); }
svg .c-dot, svg .hit.c:hover { fill: var(--c); } svg .d-dot, svg .hit.d:hover { fill: var(--d); }
svg .hit { stroke: none; }
@media (max-width: 760px) {
  main { padding: 28px 16px 48px; }
  .charts { grid-template-columns: minmax(0, 1fr); }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  figure { padding: 14px 12px 8px; }
  .card { padding: 4px 14px; }
  th, td { padding-right: 14px; }
}
@media print { body { background: none; } figure, .card { break-inside: avoid; } }
"""
