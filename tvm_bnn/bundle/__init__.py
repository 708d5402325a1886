"""What a bundle holds beside the network: a runner in C++, examples, a README."""
