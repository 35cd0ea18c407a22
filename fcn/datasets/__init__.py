"""From a data set's own format to the packed split."""
