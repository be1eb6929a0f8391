"""`phenoembed search`: what looks like this compound, well, group or image?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from phenoembed_cli.options import DEFAULT_STORE, Encoder, Json, Store, Where
from phenoembed_cli.output import note, print_json, print_table
from phenoembed_cli.quick import leave_out_pandas

SHOWN = {
    "image": ("plate", "well", "field", "compound", "concentration_um", "time_h"),
    "group": ("compound", "replicate", "set", "field"),
    "treatment": ("compound", "concentration_um"),
    "compound": ("compound",),
}
"""What names a hit in the printed table, by level; ``--json`` gives every column."""


def search(
    compound: Annotated[str | None, typer.Option("--compound", help="Search by a compound of the store.")] = None,
    concentration: Annotated[
        float | None, typer.Option("--concentration", metavar="µM", help="Of the compound, only this concentration.")
    ] = None,
    well: Annotated[
        str | None,
        typer.Option(
            "--well",
            metavar="PLATE:WELL",
            help="Search by a well; SCREEN/PLATE:WELL where several screens have such a plate.",
        ),
    ] = None,
    group: Annotated[str | None, typer.Option("--group", metavar="ID", help="Search by a group's id.")] = None,
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="Search by an image file.")] = None,
    where: Where = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    by: Annotated[str, typer.Option("--by", help="image, group, treatment or compound.")] = "compound",
    not_same: Annotated[
        str | None, typer.Option("--not-same", help="Columns a neighbour must not share, e.g. plate,well.")
    ] = None,
    include_self: Annotated[bool, typer.Option("--include-self", help="The query itself may be a hit.")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector, use no index.")] = False,
    encoder: Encoder = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Find the compounds (or groups, or images) that look like this one."""
    if sum(query is not None for query in (compound, well, group, image)) != 1:
        raise typer.BadParameter("name exactly one of --compound, --well, --group or --image")
    if by not in SHOWN:
        raise typer.BadParameter(f"'{by}' is no level; one of: {', '.join(SHOWN)}", param_hint="--by")
    leave_out_pandas()
    import phenoembed_store
    from phenoembed_store.documents import search_document

    opened = phenoembed_store.open(store)
    vector = None
    if image is not None:
        from phenoembed.indexing import embed_files

        vector = embed_files([image], opened, opened.resolve_encoder(encoder))[0]
    hits = opened.search(
        compound=compound,
        concentration_um=concentration,
        well=well,
        group=group,
        vector=vector,
        level=by,
        k=k,
        where=where,
        not_same=[name.strip() for name in not_same.split(",")] if not_same else (),
        include_self=include_self,
        encoder=encoder,
        exact=exact,
    )
    found = search_document(hits)
    if image is not None:
        found["query"] = {"image": str(image)} | {k: v for k, v in found["query"].items() if k != "vector"}
    if as_json:
        print_json(found)
        return
    rows = found["hits"]
    if not rows:
        note("no neighbours: nothing else passes the filter")
        return
    _print_hits(rows, by)
    if found["query"]["query_not_filtered"]:
        note("no image of the query passes the filter: it asked with all of them")
    if not_same and by != "image":
        note(f"scores are mean cosines of pairs of groups that share no {' and no '.join(found['query']['not_same'])}")


def _print_hits(rows: list[dict[str, Any]], level: str) -> None:
    named = SHOWN[level]
    columns = ["rank", *named, "score", "MoA", "images", "same plate"]
    yes_no = {True: "yes", False: "no", None: ""}
    print_table(
        columns,
        [
            [
                row["rank"],
                *(_short(row[name]) for name in named),
                row["score"],
                row.get("moa"),
                row["n_images"],
                yes_no[row["same_plate"]],
            ]
            for row in rows
        ],
    )


def _short(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value
