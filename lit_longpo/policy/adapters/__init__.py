"""Low-rank adapters: on a model, in a folder, added to the weights that they sit on."""
