#pragma once

#include <string_view>

namespace multistate::tools {

/// The page's looks: light, dark, narrow, printed. Series have eight colours that stay apart for colour-blind eyes.
inline constexpr std::string_view report_style = R"css(
:root {
  color-scheme: light dark;
  --paper: #fdfcfa; --ink: #1d2126; --soft: #59616b; --rule: #d9d8d4; --faint: #eeede9; --accent: #0b66a8; --over: #fff;
  --c0: #0b66a8; --c1: #c2500a; --c2: #0a7d5c; --c3: #a8428a; --c4: #8a6a00; --c5: #2f8fc4; --c6: #6a4fb3; --c7: #5d5d5d;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e7e8; --soft: #a0a8b0; --rule: #3a4047; --faint: #22272c; --accent: #6cb6ea; --over: #10161c;
    --c0: #6cb6ea; --c1: #f08c4a; --c2: #46c49c; --c3: #e08cc8; --c4: #e0bc46; --c5: #a6d8f4; --c6: #b09df0; --c7: #b4b4b4;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: .95rem; font-weight: 600; color: var(--soft); margin: 0 0 .75rem; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 3.25rem 0 .9rem; padding-top: 1.1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
h4 { font-size: .9rem; font-weight: 600; margin: 1.2rem 0 .3rem; }
.finding { font-size: clamp(1.2rem, 2.4vw, 1.6rem); line-height: 1.35; margin: 0 0 1.25rem; max-width: 44rem; text-wrap: pretty; }
.warning { border-left: 4px solid var(--c1); padding: .3rem .9rem; }
p { max-width: 44rem; }
.caption, figcaption { color: var(--soft); font-size: .875rem; max-width: 44rem; margin: .5rem 0; }
.absent { color: var(--soft); font-style: italic; }
code { font: .9em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { font: .85rem/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre-wrap; background: var(--faint); padding: .8rem 1rem; border-radius: 4px; }
nav { font-size: .9rem; margin: 1.25rem 0 0; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; }
a { color: var(--accent); text-underline-offset: .15em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
figure { margin: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem 1.5rem; }
.many { display: flex; flex-wrap: wrap; gap: 1.2rem 1.8rem; align-items: start; }
svg.plot { display: block; height: auto; } svg.plot:not(.cells) { width: 100%; }
svg.cells { max-width: 100%; }
svg text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; font-family: inherit; }
svg .mid { text-anchor: middle; } svg .end { text-anchor: end; } svg .label { fill: var(--ink); } svg .strong { font-weight: 600; }
.cells .mid.tick { fill: var(--ink); } svg .tick.mid.over { fill: var(--over); }
svg .grid { stroke: var(--rule); stroke-width: .6; } svg .zero, svg .axis { stroke: var(--soft); stroke-width: 1; fill: none; }
.series { color: var(--soft); fill: currentColor; } .series .line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
.series .band { opacity: .13; stroke: none; }
.ref .line { stroke-dasharray: 2 4; stroke-width: 1.5; } .ref .band { opacity: .09; } .dashed .line { stroke-dasharray: 7 3; }
.ref text.label { fill: var(--soft); }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); } .c6 { color: var(--c6); } .c7 { color: var(--c7); }
.cell { fill: var(--accent); }
.table { overflow-x: auto; margin: 1rem 0; background: linear-gradient(to left, var(--paper) 1rem, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--rule), transparent) right / 1.2rem 100% no-repeat scroll; } /* a shade where there is more */
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums lining-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .4rem; }
th, td { text-align: right; padding: .22rem .65rem; white-space: nowrap; vertical-align: bottom; }
thead th { font-weight: 500; color: var(--soft); border-bottom: 1px solid var(--soft); white-space: normal; min-width: 3.6rem; line-height: 1.25; }
tbody th, .word { text-align: left; font-weight: 400; }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--paper); padding-left: 0; }
tr.first > * { border-top: 1px solid var(--rule); padding-top: .4rem; }
tr.grey > * { color: var(--soft); }
tbody tr:hover > * { background: var(--faint); }
details { margin: 1rem 0; } dt { margin-top: .5rem; } dd { margin: 0 0 0 1.2rem; max-width: 44rem; color: var(--soft); font-size: .9rem; } summary { cursor: pointer; color: var(--accent); }
blockquote { margin: .3rem 0 .8rem; padding-left: .9rem; border-left: 2px solid var(--rule); font-family: Georgia, "DejaVu Serif", serif; font-size: .92rem; max-width: 44rem; }
.bar { width: 160px; height: 12px; display: block; }
.part0 { fill: var(--c0); } .part1 { fill: var(--ink); } .part2 { fill: var(--c0); opacity: .3; }
.js { display: none; } .scripted .js { display: flex; }
.controls { flex-wrap: wrap; gap: .6rem 1.6rem; margin: 0 0 1rem; font-size: .9rem; }
.controls label { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem; min-height: 2.4rem; }
.controls output { min-width: 9.5em; font-variant-numeric: tabular-nums; color: var(--soft); }
select { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--soft); border-radius: 4px; padding: .3rem .5rem; max-width: 100%; }
input[type=range] { accent-color: var(--accent); width: 12rem; }
.trace { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.5rem; align-items: start; }
#lives canvas, svg.lives { display: block; width: 100%; aspect-ratio: 1; border: 1px solid var(--rule); image-rendering: auto; }
svg.lives path { stroke: var(--accent); stroke-width: 1; fill: none; }
#says { margin: 0 0 .6rem; font-size: .9rem; min-height: 3em; }
#text { max-height: 30rem; overflow-y: auto; white-space: pre-wrap; font: .88rem/1.7 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; border: 1px solid var(--rule); padding: .6rem; overflow-wrap: anywhere; }
.s0 { --s: 0; } .s1 { --s: 0.05; } .s2 { --s: 0.1; } .s3 { --s: 0.15; } .s4 { --s: 0.2; } .s5 { --s: 0.25; } .s6 { --s: 0.3; } .s7 { --s: 0.35; } .s8 { --s: 0.4; } .s9 { --s: 0.45; } .s10 { --s: 0.5; }
.s11 { --s: 0.55; } .s12 { --s: 0.6; } .s13 { --s: 0.65; } .s14 { --s: 0.7; } .s15 { --s: 0.75; } .s16 { --s: 0.8; } .s17 { --s: 0.85; } .s18 { --s: 0.9; } .s19 { --s: 0.95; } .s20 { --s: 1; }
#text span { background: color-mix(in srgb, var(--accent) calc(var(--s) * 55%), transparent); }
#text .gone { background: none; color: color-mix(in srgb, var(--ink) 38%, var(--paper)); }
#text .here { outline: 2px solid var(--c1); }
.box { margin-top: 3rem; border: 1px solid var(--rule); border-left: 4px solid var(--c1); padding: .2rem 1.2rem .6rem; border-radius: 4px; }
.box h2 { border: 0; margin: .8rem 0 .4rem; padding: 0; }
li { max-width: 44rem; margin: .35rem 0; }
@media (max-width: 40rem) {
  body { padding: 1.25rem .9rem 3rem; }
  svg.plot text { font-size: 15px; } svg.cells text { font-size: 12px; }
  input[type=range] { width: 100%; }
  .controls label { width: 100%; }
}
@media print {
  @page { margin: 16mm; }
  body { max-width: none; padding: 0; font-size: 10pt; background: #fff; }
  nav, .scripted .js { display: none; }
  h2, h3, caption { break-after: avoid; } figure, tr, .box { break-inside: avoid; }
  .table { overflow: visible; } table { font-size: 6.2pt; width: 100%; } th, td { padding: .15rem .2rem; white-space: normal; } thead th { min-width: 0; }
  tbody th { position: static; overflow-wrap: anywhere; }
  #text { max-height: none; overflow: visible; font-size: 7pt; }
  .trace { grid-template-columns: 2fr 3fr; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
)css";

}  // namespace multistate::tools
