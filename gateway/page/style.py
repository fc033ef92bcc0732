"""The page's style: for a phone first, light and dark, without any external resource."""

import base64
import hashlib

from commonwatt.model.palette import stylesheet

STYLE = (
    stylesheet()
    + """
:root{color-scheme:light dark;--bg:#f4f5f3;--card:#fff;--line:#dfe2dd;--text:#1b211d;--soft:#5c665f;--track:#e6e9e4;
--warnbg:#fff6e3;--badbg:#fdecea;--goodbg:#e8f4ed}
@media(prefers-color-scheme:dark){:root{--bg:#111513;--card:#1a201d;--line:#2c3530;--text:#e8ece9;--soft:#a0aca4;
--track:#2b332f;--warnbg:#33290f;--badbg:#3a1815;--goodbg:#14301f}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,
"DejaVu Sans",sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:66rem;margin:0 auto;padding:0 1rem}
header{padding-top:1.1rem;display:flex;flex-wrap:wrap;align-items:baseline;justify-content:space-between;gap:.1rem 1rem}
h1{font-size:1.45rem;margin:0;letter-spacing:-.01em}
h2{font-size:1rem;margin:0 0 .6rem;display:flex;justify-content:space-between;gap:.75rem;align-items:baseline}
h2 small,.soft{color:var(--soft);font-weight:400;font-size:.875rem}
p{margin:0 0 .75rem}
a{color:inherit;text-underline-offset:.15em}
main,main>div{display:grid;gap:.85rem;grid-template-columns:minmax(0,1fr);align-content:start}
main{padding-top:.85rem;padding-bottom:.85rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.8rem;padding:.9rem 1rem;min-width:0}
section>:last-child{margin-bottom:0}
.verdict{display:flex;gap:.6rem;align-items:center;font-weight:600;border-left:.4rem solid var(--good);
background:var(--goodbg)}
.verdict.note{border-left-color:var(--warning);background:var(--warnbg)}
.more{margin-top:.6rem;padding-top:.6rem;border-top:1px solid var(--line)}
.alarms{padding:0;background:none;border:0;display:grid;gap:.6rem}
.alarm{border:1px solid var(--line);border-left:.4rem solid var(--warning);border-radius:.8rem;background:var(--warnbg);
padding:.7rem 1rem}
.alarm.critical{border-left-color:var(--bad);background:var(--badbg)}
.alarm b{display:block}.alarm p{margin:.15rem 0 0;font-size:.9375rem}
.tag{font-size:.75rem;font-weight:600;letter-spacing:.02em;padding:.1rem .5rem;border-radius:1rem;
border:1px solid currentcolor;white-space:nowrap}
.tag.critical,.bad{color:var(--bad)}.tag.warning,.warn{color:var(--warning)}.good{color:var(--good)}
.alarm .tag{float:right;margin-left:.75rem}
.rests,.out{color:var(--soft)}
ul{list-style:none;margin:0;padding:0}
li{padding:.6rem 0;border-top:1px solid var(--line)}
li:first-child{border-top:0;padding-top:0}li:last-child{padding-bottom:0}
.row{display:flex;justify-content:space-between;gap:.2rem .75rem;align-items:baseline;flex-wrap:wrap}
.row b{font-weight:600}.num{font-variant-numeric:tabular-nums}
svg{display:block;width:100%;height:1.1rem;margin:.35rem 0 .25rem}
svg .track{fill:var(--track)}svg .mark{fill:var(--text)}
svg .gives{fill:var(--flow-battery)}svg .receives{fill:var(--flow-neighbours)}svg .rests,svg .out{fill:var(--idle)}
svg .ok{fill:var(--good)}svg .over{fill:var(--bad)}svg .risk{fill:var(--warning)}
dl{display:grid;gap:.3rem;margin:0}
dl div{display:flex;justify-content:space-between;gap:1rem}
dt{color:var(--soft);flex:0 1 auto}dd{flex:0 1 auto;margin:0;text-align:right;font-variant-numeric:tabular-nums}
footer{color:var(--soft);font-size:.875rem;padding-bottom:2rem;display:flex;flex-wrap:wrap;gap:.5rem 1rem;
justify-content:space-between;align-items:center}
button,input{font:inherit;color:inherit;border-radius:.6rem;border:1px solid var(--line);padding:.65rem .9rem}
button{background:var(--card);cursor:pointer;min-height:2.75rem}
:focus-visible{outline:3px solid var(--good);outline-offset:2px}
.login{max-width:24rem;width:100%;margin:8vh auto 0}
.login form{display:grid;gap:.75rem}.login input{width:100%;background:var(--bg)}
.login button{background:var(--text);color:var(--card);border-color:var(--text);font-weight:600}
@media(min-width:52rem){main.wide{grid-template-columns:repeat(2,minmax(0,1fr))}
main.wide>section{grid-column:1/-1}
.pairs{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));column-gap:2rem}
.pairs li:nth-child(2){border-top:0;padding-top:0}}
"""
)
"""Colours, sizes and places; widths of bars stand in the drawings, so that no style stands in an element."""

POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Content-Security-Policy: this style and the page's own forms, no script and nothing else."""
