"""Where examples come from, and in what order and shape they reach the devices."""
