"""One file for each way of bringing a classifier."""
