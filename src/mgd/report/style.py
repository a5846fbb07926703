"""Style and script of the page: both in the file, so that it needs nothing else."""

import base64
import hashlib

from mgd.report.theme import DARK, LIGHT


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{role}: {colour};" for role, colour in colours.items())


STYLE = f"""
:root {{ color-scheme: light; {_variables(LIGHT)} }}
:root[data-theme=dark] {{ color-scheme: dark; {_variables(DARK)} }}
@media screen and (prefers-color-scheme: dark) {{
  :root:not([data-theme=light]) {{ color-scheme: dark; {_variables(DARK)} }}
}}
* {{ box-sizing: border-box }}
body {{ margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }}
main {{ max-width: 74rem; margin: 0 auto; padding: 1.25rem clamp(1rem, 3vw, 2.5rem) 4rem }}
header {{ display: flex; gap: 1rem; align-items: flex-start; justify-content: space-between }}
h1 {{ font-size: clamp(1.4rem, 4vw, 2rem); line-height: 1.2; margin: .2rem 0 .6rem;
  overflow-wrap: anywhere }}
h2 {{ font-size: 1.3rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line) }}
h3 {{ font-size: 1.05rem; margin: 0; display: inline; overflow-wrap: anywhere }}
p {{ max-width: 48rem; overflow-wrap: anywhere }}
.headline {{ font-size: clamp(1.05rem, 2.6vw, 1.3rem); line-height: 1.5; max-width: 56rem;
  padding: 1rem 1.2rem; margin: .8rem 0; background: var(--panel);
  border-left: 4px solid var(--accent); border-radius: 4px }}
.note, figcaption, .empty {{ color: var(--soft); font-size: .9rem }}
nav ul {{ display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .8rem 0;
  list-style: none }}
a {{ color: var(--accent) }}
.scroll {{ overflow-x: auto; max-width: 100%; margin: .8rem 0 }}
table {{ border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums }}
td, th {{ padding: .35rem .75rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line) }}
th {{ color: var(--soft); font-weight: 600; vertical-align: bottom }}
td:first-child, th:first-child {{ text-align: left }}
.wide td:first-child {{ white-space: normal; min-width: clamp(7.5rem, 18vw, 15rem);
  overflow-wrap: anywhere }}
.wide td:first-child, .wide th:first-child {{ position: sticky; left: 0;
  background: var(--paper) }}
.text td, .text th {{ text-align: left }}
.text td {{ white-space: normal; overflow-wrap: break-word; max-width: 24rem }}
tbody tr:hover {{ background: var(--panel) }}
td[title] {{ cursor: help; text-decoration: underline dotted var(--soft);
  text-underline-offset: 3px }}
.strip {{ width: 11rem; height: 1.2rem; vertical-align: middle }}
.swatch {{ display: inline-block; width: .75em; height: .75em; border-radius: 50%;
  margin-right: .5em }}
.grid {{ display: grid; gap: 1.5rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)) }}
.three {{ grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)) }}
h4 {{ font-size: .95rem; margin: 1.6rem 0 .6rem; overflow-wrap: anywhere }}
h5 {{ font-size: .9rem; margin: 0 }}
.maps dl {{ margin: .3rem 0 0 }}
.maps dt {{ font-size: .85rem; line-height: 1.3; color: var(--soft) }}
.maps dd {{ margin: .1rem 0 .45rem }}
.maps svg {{ display: block; width: 100%; height: auto }}
.maps image, .scale image {{ image-rendering: pixelated }}
.maps rect, .scale rect {{ fill: var(--panel); stroke: var(--line); stroke-width: .5 }}
.scale {{ display: flex; flex-wrap: wrap; gap: .2rem .6rem; align-items: center;
  font-size: .9rem }}
.scale svg {{ width: 9rem }}
.store {{ position: absolute; width: 0; height: 0 }}
figure {{ margin: 0; min-width: 0 }}
figure > svg {{ display: block; width: 100%; max-width: 35rem; height: auto }}
svg text {{ font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }}
figcaption {{ margin-top: .3rem; overflow-wrap: anywhere }}
.shots {{ display: grid; gap: 1rem .9rem; padding: 0; margin: .8rem 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)) }}
.shot {{ display: block; width: 72px; height: 72px; object-fit: contain; object-position: left }}
.shot[src^="data:image/png"] {{ image-rendering: pixelated }}
.shots dl, .shots dd {{ margin: 0 }}
.shots dl > div {{ display: grid; grid-template-columns: 4.2em 1fr; color: var(--ink) }}
.shots dt {{ color: var(--soft) }}
.shots dd {{ min-width: 0; overflow-wrap: anywhere }}
.shots span {{ overflow-wrap: anywhere }}
.classes td:nth-child(2), .classes th:nth-child(2) {{ text-align: left }}
.legend {{ display: flex; flex-wrap: wrap; gap: .25rem; padding: 0; margin: .3rem 0;
  list-style: none; font-size: .9rem }}
button {{ font: inherit; color: inherit; background: none; border: 1px solid transparent;
  border-radius: 4px; padding: .15rem .45rem; cursor: pointer; text-align: left }}
button:hover {{ background: var(--panel); border-color: var(--line) }}
.legend button {{ display: flex; gap: .45rem; align-items: center; overflow-wrap: anywhere }}
.legend b {{ flex: none }}
.legend button[aria-pressed=false] {{ color: var(--soft); text-decoration: line-through }}
.legend button[aria-pressed=false] .key {{ opacity: .3 }}
.key {{ width: 26px; height: 8px; flex: none; fill: none; stroke-width: 2.4 }}
#theme {{ border-color: var(--line); flex: none; white-space: nowrap }}
details {{ margin: .7rem 0; border: 1px solid var(--line); border-radius: 6px;
  padding: .5rem .9rem }}
summary {{ cursor: pointer }}
details > :not(summary):first-of-type {{ margin-top: .8rem }}
pre, code {{ font: .88em/1.5 ui-monospace, "DejaVu Sans Mono", monospace }}
pre {{ overflow-x: auto; background: var(--panel); padding: .6rem .8rem; border-radius: 4px }}
.copy {{ user-select: all; white-space: pre-wrap; overflow-wrap: anywhere }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px }}
@media (max-width: 30rem) {{ td, th {{ padding: .35rem .5rem }} .strip {{ width: 8rem }}
  details {{ padding: .5rem .6rem }} }}
@media print {{ #theme, nav {{ display: none }} .scroll {{ overflow: visible }} }}
"""

SCRIPT = """
const root = document.documentElement, theme = document.getElementById("theme");
theme.hidden = false;
theme.onclick = () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
for (const key of document.querySelectorAll("button[data-key]")) key.onclick = () => {
  const shown = key.getAttribute("aria-pressed") === "false";
  key.setAttribute("aria-pressed", shown);
  const scope = key.closest("[data-scope]");
  for (const part of scope.querySelectorAll(`[data-series="${key.dataset.key}"]`))
    part.style.display = shown ? "" : "none";
};
// What the reader chose stays where the page loads itself again.
const parts = [...document.querySelectorAll("details")];
const nameOf = (part) => part.firstElementChild.textContent;
const kept = JSON.parse(sessionStorage.getItem(location.pathname) || "{}");
if (kept.theme) root.dataset.theme = kept.theme;
for (const part of parts) part.open = kept.open?.[nameOf(part)] ?? part.open;
addEventListener("pagehide", () => sessionStorage.setItem(location.pathname, JSON.stringify({
  theme: root.dataset.theme,
  open: Object.fromEntries(parts.map((part) => [nameOf(part), part.open])),
})));
"""

_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    f"form-action 'none'; script-src 'sha256-{_DIGEST}'"
)
"""What a browser lets the page do: nothing is fetched, pictures are in the page itself, and no
script runs but the one above."""
