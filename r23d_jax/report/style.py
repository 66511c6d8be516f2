"""The report's style sheet: system fonts, two accents, light and dark."""

CSS = """
:root { color-scheme: light dark;
  --paper: #fcfcfa; --raised: #f4f4f0; --ink: #1d2024; --soft: #5c636c; --rule: #dfdfd8;
  --a: #1f5c99; --b: #b4481a; --on: #fff; --note: #fbf3e2; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171a; --raised: #1d2125; --ink: #e4e5e2; --soft: #9ba3ac; --rule: #31373d;
  --a: #74b0ec; --b: #f0955c; --on: #0d1013; --note: #2b2618; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main, header, footer { max-width: 70rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .35rem; font-weight: 650; letter-spacing: -.01em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .4rem; font-weight: 650; }
h3 { font-size: 1rem; margin: 1.75rem 0 .25rem; font-weight: 650; }
p { margin: .4rem 0 .8rem; max-width: 44rem; }
a { color: var(--a); text-underline-offset: .15em; }
section { border-top: 1px solid var(--rule); padding: 1.6rem 0 1.8rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
nav { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: 1rem 0 1.4rem; font-size: .9rem; }
nav a { text-decoration: none; padding: .3rem 0; } nav a:hover { text-decoration: underline; }
.note { background: var(--note); padding: .6rem .9rem; border-radius: .3rem; max-width: 46rem; }
.head + p { margin-top: 1rem; }
.head { display: grid; grid-template-columns: minmax(0, 17rem) minmax(0, 1fr); gap: .5rem 3rem; align-items: start; }
.big { font-size: 3.4rem; line-height: 1; font-weight: 650; letter-spacing: -.03em; margin: .2rem 0 .5rem;
  font-variant-numeric: tabular-nums; }
.big small { font-size: 1.6rem; font-weight: 500; letter-spacing: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .925rem; width: 100%; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: baseline; padding: .32rem 1.1rem .32rem 0;
  border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }
th { font-weight: 500; } thead th { color: var(--soft); font-size: .825rem; }
td.n, th.n { text-align: right; white-space: nowrap; overflow-wrap: normal; }
td code, dd code { overflow-wrap: anywhere; } th code { overflow-wrap: break-word; }
code { font: .875em ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .7rem 1.6rem;
  margin: 1.2rem 0 0; }
dl.facts div { min-width: 0; } dt { color: var(--soft); font-size: .825rem; }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin: .7rem 0; } summary { cursor: pointer; padding: .3rem 0; color: var(--a); }
details table { margin: .4rem 0 .8rem; }
figure { margin: 0; min-width: 0; }
figure > b { display: block; font-weight: 600; font-size: .925rem; margin-bottom: .2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1.5rem 2rem;
  margin-top: 1rem; }
.two { display: grid; grid-template-columns: minmax(0, 22rem) minmax(0, 1fr); gap: 1rem 2.5rem; align-items: start; }
.side { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 1rem 2.5rem; align-items: start; }
.side > table { margin-top: 1.2rem; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; margin: .8rem 0; }
svg { display: block; max-width: 100%; height: auto; overflow: visible; font-size: 12px;
  font-variant-numeric: tabular-nums; }
.scroll svg { max-width: none; }
svg text { fill: var(--soft); }
svg .grid { stroke: var(--rule); stroke-width: 1; } svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .curve { fill: none; stroke-width: 1.75; stroke-linejoin: round; } svg .thin { fill: none; stroke-width: 1; }
svg .curve.a, svg .thin.a { stroke: var(--a); } svg .curve.b, svg .thin.b { stroke: var(--b); }
svg .band { opacity: .18; } svg .band.a, svg .dot.a, svg .bar.a { fill: var(--a); }
svg .band.b, svg .dot.b { fill: var(--b); }
svg .bar.a { opacity: .8; } svg .count { fill: var(--soft); opacity: .7; }
svg .ideal { stroke: var(--soft); stroke-dasharray: 4 4; } svg .mark { stroke: var(--b); stroke-width: 2.5; }
svg .right { fill: var(--a); } svg .wrong { fill: var(--b); }
svg text.on { fill: var(--on); } svg text.figure { fill: var(--ink); }
.legend { white-space: nowrap; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: .15em; background: var(--a); }
.key.b { background: var(--b); }
ol.bars { list-style: none; margin: .8rem 0; padding: 0; columns: 22rem auto; column-gap: 2.5rem; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
ol.bars li { display: grid; grid-template-columns: minmax(0, 12rem) 1fr 6.6rem; gap: .7rem; align-items: center;
  break-inside: avoid; padding: .13rem 0; }
ol.bars span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
ol.bars span:last-child { text-align: right; white-space: nowrap; color: var(--soft); }
ol.bars b { font-weight: 500; color: var(--ink); }
.track { background: var(--raised); height: .6rem; border-radius: .15rem; overflow: hidden; }
.track i { display: block; height: 100%; background: var(--a); } .track i.b { background: var(--b); }
.clip { padding: 1rem 0 1.2rem; }
.clip + .clip { border-top: 1px solid var(--rule); }
.clip code { overflow-wrap: anywhere; }
.clip .scores { display: grid; grid-template-columns: max-content fit-content(16rem) minmax(3rem, 10rem) max-content;
  gap: .1rem .9rem; align-items: center; font-size: .9rem; margin: .3rem 0 .6rem; font-variant-numeric: tabular-nums; }
.clip .scores > span { overflow-wrap: anywhere; min-width: 0; }
.strip { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0 .7rem; max-width: 66rem; }
.strip .rows { display: grid; grid-auto-rows: 1fr; font-size: .8rem; line-height: 1.25; color: var(--soft); }
.strip .rows div { display: flex; align-items: center; max-width: 7.5rem; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: 3px; }
.tiles img { display: block; width: 100%; height: auto; border-radius: 2px; }
footer { padding-top: 1rem; padding-bottom: 3rem; border-top: 1px solid var(--rule); }
@media (max-width: 46rem) {
  main, header, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.5rem; } h1 { font-size: 1.45rem; } section { padding: 1.3rem 0 1.5rem; }
  .head, .two, .side { grid-template-columns: minmax(0, 1fr); } .side .scroll svg { max-width: 100%; }
  dl.facts { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .6rem 1rem; }
  .strip { grid-template-columns: minmax(0, 1fr); gap: .3rem; }
  .strip .rows { display: block; } .strip .rows div { display: inline; max-width: none; }
  .strip .rows div + div::before { content: " · "; }
  .tiles { grid-template-columns: repeat(4, minmax(0, 1fr)); }
  ol.bars li { grid-template-columns: minmax(0, 8.5rem) 1fr 6.2rem; gap: .5rem; }
  .clip .scores { grid-template-columns: max-content minmax(0, 1fr) max-content; }
  .clip .scores .track { display: none; }
  th, td { padding-right: .7rem; } table { font-size: .875rem; }
}
@media print { nav { display: none; } section { break-inside: avoid-page; } }
"""
