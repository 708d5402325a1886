"""Training of the networks of the three tasks, in float and in binary, and what their parts are good for."""
