"""Networks in the form that their papers trained on ImageNet."""
