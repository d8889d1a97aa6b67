"""In what order, shape and place the examples of a data set reach the devices."""
