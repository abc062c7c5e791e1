"""The look of the report: one style sheet, light and dark, wide and narrow."""

from widemax.charts import STYLE as CHARTS

PAGE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #1d2129; --soft: #5c6470; --line: #e4e2dd;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1b1e24; --ink: #e8e6e1; --soft: #9aa2ae; --line: #2e333c;
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
.tiles dd.baseline { font-size: 13px; font-weight: 400; color: var(--soft); letter-spacing: 0; }
.tiles dd small { font-size: 14px; font-weight: 400; color: var(--soft); letter-spacing: 0;
  margin-left: 2px; }
.pictures { display: grid; grid-template-columns: minmax(0, 1fr); gap: 20px; margin-top: 40px; }
.pictures svg { width: auto; max-width: 100%; margin: 0 auto; }
.findings { max-width: 75ch; padding-left: 20px; }
.findings li { margin-bottom: 8px; }
header p { max-width: 80ch; }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px; margin-top: 20px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 0 20px; }
figure, .card { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px 12px; }
figure svg { display: block; width: 100%; height: auto; }
.card { padding: 6px 20px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 7px 24px 7px 0; border-top: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; min-width: 7em; }
tr > :last-child { padding-right: 0; }
thead th { border-top: 0; font-weight: 500; color: var(--soft); overflow-wrap: normal;
  vertical-align: bottom; }
.sortable thead th { cursor: pointer; text-decoration: underline dotted; }
[aria-sort="ascending"]::after { content: " ▲"; } [aria-sort="descending"]::after { content: " ▼"; }
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
@media (max-width: 760px) {
  main { padding: 28px 16px 48px; }
  .charts { grid-template-columns: minmax(0, 1fr); }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  figure { padding: 14px 12px 8px; overflow-x: auto; }
  figure svg { min-width: 420px; }
  .card { padding: 4px 14px; }
  th, td { padding-right: 14px; }
}
@media print { body { background: none; } figure, .card { break-inside: avoid; } }
"""

STYLE = PAGE + CHARTS
