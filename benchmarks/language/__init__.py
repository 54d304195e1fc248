"""Language models: data, training, verdict."""
