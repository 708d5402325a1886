"""Data sets of the three tasks (street segmentation, road, salient objects), generated stand-ins, and their metrics."""
