"""What stored models are used for: scoring data sets, classifying pictures, leaving flaxlab."""
