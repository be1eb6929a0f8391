"""Tables from files: CSV and TSV (gzipped or not), Parquet, AnnData."""

from pathlib import Path

import pyarrow as pa

from phenoembed_store.columns import recognise
from phenoembed_store.engine import session
from phenoembed_store.errors import MissingExtra, StoreError

TEXT = frozenset(("screen", "plate", "well", "channel", "replicate", "compound", "role", "path", "inchikey"))
"""Columns that are names even where they look like numbers: plate 007 is not plate 7."""


def read_table(path: Path) -> pa.Table:
    """A file as a table. Raises StoreError where it is not there or cannot be read."""
    if not path.is_file():
        raise StoreError(f"no file at '{path}'")
    if path.suffix == ".h5ad":
        return _read_anndata(path)
    import duckdb

    with session() as connection:
        try:
            if path.suffix == ".parquet":
                return connection.read_parquet(str(path)).to_arrow_table()
            names = connection.read_csv(str(path), header=True, all_varchar=True).columns
            text = {theirs: "VARCHAR" for ours, theirs in recognise(names).items() if ours in TEXT}
            return connection.read_csv(str(path), header=True, sample_size=-1, dtype=text).to_arrow_table()
        except duckdb.Error as error:
            raise StoreError(f"cannot read '{path}': {str(error).splitlines()[0]}") from None


def _read_anndata(path: Path) -> pa.Table:
    """``obs`` as columns, and every variable of X as a column of its own."""
    try:
        import anndata
    except ImportError:
        raise MissingExtra("anndata", "anndata") from None
    import numpy as np

    data = anndata.read_h5ad(path)
    dense = data.X.toarray() if hasattr(data.X, "toarray") else np.asarray(data.X)
    table = pa.Table.from_pandas(data.obs, preserve_index=False)
    for i, name in enumerate(data.var_names):
        table = table.append_column(str(name), pa.array(dense[:, i]))
    return table
