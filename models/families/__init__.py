"""One file a model family; the registry says which `model_type` is whose."""
