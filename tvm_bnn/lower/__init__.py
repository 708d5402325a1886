"""From Relax operators to scheduled TensorIR functions."""
