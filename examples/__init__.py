"""Networks that ship with the compiler."""
