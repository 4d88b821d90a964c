"""Networks: plain modules that take a norm and sizes and know no data set."""
