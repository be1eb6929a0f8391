"""Part of phenoembed."""
