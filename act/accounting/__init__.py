"""What a model costs: floating-point operations, those executed, and the memory of activations."""
