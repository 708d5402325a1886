"""The network of Ding et al. 2024: binary encoder-decoder with attention and parallel upsampling."""
