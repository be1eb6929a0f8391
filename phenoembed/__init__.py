"""phenoembed: an embedding database and similarity search for label-free phenotypic screening."""
