"""The Relax passes; the folder keeps the name that it was given in the days of Relay."""
