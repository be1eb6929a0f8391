"""One file a page, thin over the plain functions beside this folder."""
