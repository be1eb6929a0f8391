"""HTML of cards and strips. Every text from a store goes through ``text``: names are data, never markup."""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phenoembed.thumbnails import has_file

from phenoembed_dashboard.strips import Record, Strip, dose_label, time_label

Show = Callable[[Record], "str | None"]
"""Of an image the address of its thumbnail (a data URI), or None where it cannot be shown."""

STYLE = """
<style>
.pe { --line: color-mix(in srgb, currentColor 16%, transparent);
      --soft: color-mix(in srgb, currentColor 7%, transparent);
      --dim: color-mix(in srgb, currentColor 68%, transparent); --blue: #0072b2; --orange: #d55e00;
      font-size: .9rem; line-height: 1.35; }
.pe * { box-sizing: border-box; }
.pe-head { display: flex; gap: .5rem; align-items: baseline; min-width: 0; }
.pe-rank { color: var(--dim); font-variant-numeric: tabular-nums; flex: none; }
.pe-name { font-weight: 650; font-size: 1.05rem; min-width: 0; overflow-wrap: anywhere; display: -webkit-box;
           -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; }
.pe-score { margin-left: auto; flex: none; font-variant-numeric: tabular-nums; font-weight: 600; }
.pe-bar { height: 4px; border-radius: 2px; background: var(--soft); margin: .25rem 0 .45rem; overflow: hidden; }
.pe-bar i { display: block; height: 100%; background: var(--blue); border-radius: 2px; }
.pe-chips { display: flex; flex-wrap: wrap; gap: .3rem; margin: .1rem 0 .5rem; min-height: 1.45rem; }
.pe-chip { border: 1px solid var(--line); padding: .12rem .55rem; font-size: .78rem;
           line-height: 1.1rem; max-width: 100%; overflow-wrap: anywhere; border-radius: .75rem; overflow: hidden;
           display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical; }
.pe-chip.same { border-color: #009e73; background: color-mix(in srgb, #009e73 16%, transparent); }
.pe-chip.warn { border-color: #e69f00; background: color-mix(in srgb, #e69f00 18%, transparent); }
.pe-chip.info { border-color: var(--blue); background: color-mix(in srgb, var(--blue) 14%, transparent); }
.pe-dim { color: var(--dim); font-size: .8rem; overflow-wrap: anywhere; }
.pe-says { margin: .1rem 0 .5rem; }
.pe-says:empty { display: none; }
.pe-says.warn { border-left: 4px solid #e69f00; padding-left: .5rem; }
.pe-strip { display: grid; gap: 3px; width: max-content; max-width: 100%; align-items: center; overflow-x: auto; }
.pe-strip .c { color: var(--dim); font-size: .7rem; text-align: center; line-height: 1.1; align-self: end;
               overflow-wrap: anywhere; }
.pe-strip .l { color: var(--dim); font-size: .72rem; padding-right: .3rem; text-align: right; white-space: nowrap; }
.pe-t { position: relative; margin: 0; aspect-ratio: 1; border-radius: 4px; background: var(--soft); min-width: 0; }
.pe-t img { width: 100%; height: 100%; object-fit: cover; border-radius: 4px; display: block; }
.pe-t.off img { opacity: .18; }
.pe-t.none { border: 1px dashed var(--line); display: grid; place-items: center; color: var(--dim); font-size: .62rem;
             text-align: center; overflow: hidden; line-height: 1.1; padding: 2px; }
.pe-t.num { display: grid; place-items: center; font-size: .72rem; font-variant-numeric: tabular-nums;
            background: color-mix(in srgb, var(--orange) calc(var(--e) * 85%), var(--soft)); }
.pe-t.num.off { opacity: .25; }
.pe-t .v.hot { background: #a84300; }
.pe-t .v { position: absolute; left: 0; right: 0; bottom: 0; font-size: .68rem; text-align: center; color: #fff;
           background: rgba(0,0,0,.62); border-radius: 0 0 4px 4px; font-variant-numeric: tabular-nums; }
.pe-gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); gap: .6rem; }
.pe-gallery figcaption { font-size: .75rem; color: var(--dim); margin-top: .15rem; overflow-wrap: anywhere; }
.pe-gallery figure { margin: 0; }
.pe-tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: .6rem;
            margin: .2rem 0 .6rem; }
.pe-tile { border: 1px solid var(--line); border-radius: 10px; padding: .55rem .8rem; }
.pe-tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.pe-legend { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: .8rem; }
.pe-legend i { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .35rem;
               border: .5px solid currentColor; }
.pe-legend span { max-width: 16rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.pe-structure img { max-width: 100%; height: auto; background: #fff; border-radius: 8px; display: block; }
@media (min-width: 1000px) { .st-key-query { position: sticky; top: 4rem; } }
[data-testid="stSidebarHeader"]::before { content: "phenoembed"; font-weight: 700; font-size: 1.15rem; }
[data-testid="stMainBlockContainer"] { padding-top: 3.2rem; max-width: 1680px; }
[data-testid="stPageLink"] p { white-space: normal; }
@media (min-width: 769px) and (max-width: 1250px) {
  [data-testid="stSidebar"] { width: 190px !important; min-width: 190px !important; }
  [data-testid="stMainBlockContainer"] { padding-left: 1.6rem; padding-right: 1.6rem; }
  [data-testid="stHorizontalBlock"] { gap: 1rem; }
}
@media (max-width: 768px) { [data-testid="stMainBlockContainer"] { padding: 4.4rem 1rem 2rem; } }
</style>
"""


def text(value: Any) -> str:
    """A value as text that can stand anywhere in HTML."""
    return html.escape(str(value), quote=True)


def data_uri(data: bytes, kind: str = "image/webp") -> str:
    return f"data:{kind};base64," + base64.b64encode(data).decode()


def caption_of(record: Record) -> str:
    """What an image is, in a line of plain text."""
    dose = "control" if record["role"] == "control" else dose_label(record["concentration_um"])
    place = f"{record['plate']} {record['well']}, field {record['field']}"
    return f"{record['compound']}, {dose}, {time_label(record['time_h'])}, {place}"


def shortened(value: str, limit: int) -> str:
    """A name that has at most so many letters where it cannot be wrapped."""
    return value if len(value) <= limit else value[: limit - 1] + "…"


def name(value: str) -> str:
    """A name: cut after two lines, whole in its tooltip, in its own writing direction."""
    return f'<bdi class="pe-name" title="{text(value)}">{text(value)}</bdi>'


def chip(value: str, kind: str = "", title: str = "") -> str:
    hint = f' title="{text(title)}"' if title else f' title="{text(value)}"'
    return f'<span class="pe-chip {kind}"{hint}><bdi>{text(value)}</bdi></span>'


def chips(parts: Sequence[str]) -> str:
    return f'<div class="pe-chips">{"".join(parts)}</div>' if parts else ""


def bar(share: float, says: str) -> str:
    width = f"{100 * min(1.0, max(0.0, share)):.1f}%"
    return f'<div class="pe-bar" title="{text(says)}"><i style="width:{width}"></i></div>'


@dataclass(frozen=True)
class Note:
    """A figure on an image. ``strength``, 0 to 1: how strongly it is coloured; ``hot``: beyond the usual."""

    text: str
    strength: float = 0.0
    hot: bool = False
    says: str = ""


def strip_html(
    strip: Strip,
    show: Show,
    *,
    size: int = 64,
    off: Callable[[Record], bool] | None = None,
    note: Callable[[Record], Note | None] | None = None,
) -> str:
    """The grid: dose labels above, time labels before each line. ``off``: shown pale; ``note``: a figure on top."""
    if not strip.records():
        return '<div class="pe-dim">no images under these filters</div>'
    n = len(strip.columns)
    parts = ["<span></span>", *(f'<span class="c" title="{text(c)}">{text(c)}</span>' for c in strip.columns)]
    for label, cells in zip(strip.lines, strip.cells, strict=True):
        parts.append(f'<span class="l">{text(label)}</span>')
        parts += [_thumb(record, show, off, note) for record in cells]
    grid = f"grid-template-columns: max-content repeat({n}, minmax(24px, {size}px))"
    rest = f'<div class="pe-dim">{text(strip.left_out)} shown</div>' if strip.left_out else ""
    return f'<div class="pe-strip" style="{grid}">{"".join(parts)}</div>{rest}'


def gallery(records: Sequence[Record], show: Show) -> str:
    """Larger thumbnails with their captions."""
    figures = [
        f"<figure>{_thumb(record, show, None, None)}<figcaption>{text(caption_of(record))}</figcaption></figure>"
        for record in records
    ]
    return f'<div class="pe pe-gallery">{"".join(figures)}</div>'


def legend(names: Sequence[str], colours: Sequence[str], title: str) -> str:
    """What each colour stands for."""
    parts = [
        f'<span><i style="background:{text(colour)}"></i><bdi>{text(name)}</bdi></span>'
        for name, colour in zip(names, colours, strict=True)
    ]
    return f'<div class="pe pe-legend" role="list" aria-label="{text(title)}">{"".join(parts)}</div>'


def tiles(figures: Mapping[str, str]) -> str:
    """A few large numbers, each with its label."""
    parts = [
        f'<div class="pe-tile"><b>{text(v)}</b><span class="pe-dim">{text(k)}</span></div>' for k, v in figures.items()
    ]
    return f'<div class="pe pe-tiles">{"".join(parts)}</div>'


def _thumb(
    record: Record | None,
    show: Show,
    off: Callable[[Record], bool] | None,
    note: Callable[[Record], Note | None] | None,
) -> str:
    if record is None:
        return '<div class="pe-t none" title="not imaged at this dose and time"></div>'
    caption, source = text(caption_of(record)), show(record)
    pale = " off" if off is not None and off(record) else ""
    said = None if note is None else note(record)
    hot = " hot" if said is not None and said.hot else ""
    hint = caption if said is None or not said.says else f"{caption}: {text(said.says)}"
    figure = "" if said is None else f'<span class="v{hot}">{text(said.text)}</span>'
    if source is not None:
        return f'<div class="pe-t{pale}" title="{hint}"><img src="{source}" alt="{caption}">{figure}</div>'
    if has_file(record):
        return f'<div class="pe-t none" title="{hint}: the image file cannot be read">no<br>file{figure}</div>'
    if said is None:
        return f'<div class="pe-t none" title="{hint}: a profile without an image">profile</div>'
    return f'<div class="pe-t num{pale}" style="--e:{said.strength:.2f}" title="{hint}">{text(said.text)}</div>'
