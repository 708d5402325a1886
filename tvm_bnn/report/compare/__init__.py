"""`python -m tvm_bnn.report compare`: which network to deploy, by accuracy and latency, on one page."""
